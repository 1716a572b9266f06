// The `surgeon` program: hands its arguments to surgeon_command.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <new>

#include "experiments/list.hpp"

namespace {

// Where stdin, stdout or stderr is closed, the next file that is opened would take its number, and our words.
void open_standard_streams() {
  int descriptor = open("/dev/null", O_RDWR);
  while (descriptor >= 0 && descriptor <= 2) descriptor = open("/dev/null", O_RDWR);
  if (descriptor > 2) close(descriptor);
}

// A waiting thread of GNU's OpenMP spins for milliseconds. On shared cores it takes time from the very thread it waits
// for, and small models then train ten times slower. The runtime reads its variables before main, so start once more.
void spin_less(char** words) {
  if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
  setenv("GOMP_SPINCOUNT", "2000", 1);
  setenv("OPENBLAS_NUM_THREADS", "1", 1);   // we hold it at one anyhow; this way it starts no threads that spin
  execv("/proc/self/exe", words);   // if this fails, only speed is lost
}

#ifdef __linux__
// Before any library begins: OpenBLAS 0.3.29 maps a buffer for each of its threads when it is loaded, and where there is
// no room it tries for ever. So: one thread unless the environment asks for more, and room for the buffers, or the end.
// The C library is not ready for more than system calls here.
void before_libraries(int, char** words, char** environment) {
  rlimit limit;
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  static char one_thread[] = "OPENBLAS_NUM_THREADS=1";
  constexpr size_t most = 4096, name = sizeof one_thread - 2;   // up to and with the =
  static char* more[most + 2];
  size_t n = 0;
  size_t threads = 0;   // that the environment asks for
  for (; environment[n] && n < most; ++n) {
    more[n] = environment[n];
    if (strncmp(environment[n], one_thread, name) == 0)
      for (const char* c = environment[n] + name; *c >= '0' && *c <= '9' && threads < 1000; ++c)
        threads = 10 * threads + size_t(*c - '0');
  }
  if (threads == 0 && !environment[n]) {
    more[n] = one_thread;
    execve("/proc/self/exe", words, more);
  }
  constexpr size_t buffer = size_t{132} << 20;   // 128 MiB, and what lies around it
  const size_t needed = buffer * (threads == 0 ? 1 : threads);
  void* at = mmap(nullptr, needed, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) {
    constexpr char text[] = "surgeon: out of memory\n";
    [[maybe_unused]] const ssize_t written = write(2, text, sizeof text - 1);
    _exit(1);
  }
  munmap(at, needed);
}
[[gnu::section(".preinit_array"), gnu::used]] void (*const first_of_all)(int, char**, char**) = before_libraries;
#endif

}  // namespace

int main(int count, char** words) try {
  open_standard_streams();
  spin_less(words);
  std::signal(SIGPIPE, SIG_IGN);   // a reader that goes away must not end the run
  std::signal(SIGXFSZ, SIG_IGN);   // past `ulimit -f` a file cannot be written; that is said, like any other reason
  return surgeon::surgeon_command(surgeon::all_experiments(), {words + 1, words + count}, std::cout, std::cerr);
} catch (const std::bad_alloc&) {
  std::fputs("surgeon: out of memory\n", stderr);
  return 1;
}
