// The signals that ask a run to stop: SIGINT (Ctrl-C), SIGTERM (schedulers, kill), SIGHUP (a closed terminal).
#pragma once

namespace surgeon {

// While one lives, each of them sets Lab::interrupted() instead of ending the process; the second one ends it. One that
// was ignored when we started, as under nohup, stays ignored.
class CatchSignals {
 public:
  CatchSignals();
  ~CatchSignals();
  CatchSignals(const CatchSignals&) = delete;
  CatchSignals& operator=(const CatchSignals&) = delete;
};

int exit_of_signal() noexcept;   // 128 + the signal that came, as shells count: 130, 143, 129

}  // namespace surgeon
