// The folder of a run: made by one process only, held by it while it lives, swept when it died.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "experiments/lab/session.hpp"

namespace surgeon {

// Empty but for run.log, on which a lock tells others that the run goes on: it ends with the process, however that
// ends. Unless begun() is called, the folder goes again with its maker.
class NewFolder {
 public:
  // --out, or runs/<date>_<time>_<experiment>. UsageError when --out is not empty and there is no --force, or another
  // run is in it; std::runtime_error when it cannot be made, and then nothing was made.
  NewFolder(const Settings& settings, const std::string& experiment);
  // Inside the folder of `all`.
  NewFolder(const NewFolder& all, const std::string& experiment, const Settings& settings);
  ~NewFolder();
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void begun();      // it stays, and runs/latest points at it
  // Removes what a Session wrote, and the folder when that leaves it empty; runs/latest is as before. Where files lay
  // before, by --force, all stays.
  void discard();

 private:
  void make_dated(const std::string& experiment);
  void open(const std::string& experiment, bool force);
  void make();
  void claim(bool force);
  std::filesystem::path path_;
  std::vector<std::filesystem::path> made_ = {};   // the folders made on the way to it, so that they can go again
  int lock_ = -1;
  bool dated_ = false, begun_ = false;
  bool others_ = false;                            // by --force: files lie here that we did not write
  std::filesystem::path latest_before_ = {};       // what runs/latest pointed at
};

}  // namespace surgeon
