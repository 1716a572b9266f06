#include "experiments/lab/signals.hpp"

#include <signal.h>

#include <atomic>
#include <iterator>

#include "experiments/lab.hpp"

namespace surgeon {
namespace {

constexpr int asked_to_stop[] = {SIGINT, SIGTERM, SIGHUP};
struct sigaction before[std::size(asked_to_stop)];
std::atomic<int> came{0};   // the first of them; lock-free, so a handler may set it

void on_signal(int number) {
  int none = 0;
  came.compare_exchange_strong(none, number);
  for (const int each : asked_to_stop) {   // the second one ends the process
    struct sigaction now;
    if (sigaction(each, nullptr, &now) == 0 && now.sa_handler == on_signal) signal(each, SIG_DFL);
  }
}

}  // namespace

bool Lab::interrupted() noexcept { return came != 0; }

void Lab::stop_if_interrupted() {
  if (interrupted()) throw Interrupted();
}

int exit_of_signal() noexcept { return 128 + (came != 0 ? came.load() : SIGINT); }

CatchSignals::CatchSignals() {
  came = 0;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  for (const int each : asked_to_stop) sigaddset(&action.sa_mask, each);
  action.sa_flags = SA_RESTART;
  for (std::size_t i = 0; i < std::size(asked_to_stop); ++i) {
    sigaction(asked_to_stop[i], nullptr, &before[i]);
    if (before[i].sa_handler != SIG_IGN) sigaction(asked_to_stop[i], &action, nullptr);
  }
}

CatchSignals::~CatchSignals() {
  for (std::size_t i = 0; i < std::size(asked_to_stop); ++i) sigaction(asked_to_stop[i], &before[i], nullptr);
  came = 0;
}

}  // namespace surgeon
