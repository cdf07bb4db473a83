// Enumerates what a disk may hold when the power goes during a save, and what is loaded from it.
#pragma once

#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "tests/runtime/session/crash_disk.h"
#include "tests/runtime/session/tiny_session.h"

namespace qft {

inline constexpr char kNothing[] = "nothing";

// What is on a disk as a test sees it: a state's hash, kNothing, or an error. Two disks with the
// same text give the same answer, so each is asked once.
class Loader {
 public:
  explicit Loader(std::function<std::string(CrashDisk&)> load) : load_(std::move(load)) {}

  // is_new [out, may be null]: whether no disk with this text was asked about before.
  const std::string& Load(const DiskImage& image, bool* is_new = nullptr) {
    Hasher hasher;
    const std::string text = ImageText(image);
    hasher.Update(text.data(), text.size());
    const auto [found, added] = loaded_.try_emplace(hasher.Hex());
    if (added) {
      CrashDisk disk(image);
      found->second = load_(disk);
    }
    if (is_new != nullptr) *is_new = added;
    return found->second;
  }

 private:
  std::function<std::string(CrashDisk&)> load_;
  std::unordered_map<std::string, std::string> loaded_;
};

struct Scenario {
  std::string name;
  // Durable when the save begins; may be empty.
  std::function<void(CrashDisk&)> before;
  // Done before the save and not synced, by a process that was killed; may be empty.
  std::function<void(CrashDisk&)> killed;
  std::function<Status(CrashDisk&)> save;
  // On whatever a crash left: must give the new state. May be empty.
  std::function<Status(CrashDisk&)> save_again;
  std::set<std::string> old_states;
  std::string new_state;
  // Syncs, by label and number, that nothing depends on here, and why.
  std::map<std::string, std::string> idle;
};

// Runs a scenario on `disk`, whose log is then that of `killed` and `save`.
inline void Record(const Scenario& scenario, CrashDisk& disk) {
  if (scenario.before) scenario.before(disk);
  disk.Settle();
  if (scenario.killed) scenario.killed(disk);
  EXPECT_EQ(scenario.save(disk), absl::OkStatus()) << scenario.name;
}

class Enumeration {
 public:
  // Sync number `ignored` of the log did nothing; -1: all worked.
  Enumeration(const Scenario& scenario, const CrashDisk& disk, Loader& loader, int ignored = -1)
      : scenario_(scenario), disk_(disk), loader_(loader), ignored_(ignored) {}

  // The first violation, empty if there is none.
  const std::string& violation() const { return violation_; }
  int64_t cases() const { return cases_; }
  int64_t saved_again() const { return saved_again_; }

  // Every prefix with all that was not synced kept and lost.
  void EveryPrefix() {
    for (size_t n = 0; n <= log().size() && violation_.empty(); ++n) {
      const Crash crash(disk_.start(), log(), n, ignored_);
      for (const Fate data : {Fate::kKept, Fate::kLost, Fate::kZeroed}) {
        for (const Fate entries : {Fate::kKept, Fate::kLost}) {
          Check(crash, n, Fates(crash, data, entries));
        }
      }
    }
  }

  // Every prefix with one operation lost, one kept, and with the order kept.
  void EveryOperation() {
    for (size_t n = 0; n <= log().size() && violation_.empty(); ++n) {
      const Crash crash(disk_.start(), log(), n, ignored_);
      const size_t pending = crash.pending().size();
      for (size_t i = 0; i < pending; ++i) {
        std::vector<Fate> fates(pending, Fate::kKept);
        fates[i] = Fate::kLost;
        Check(crash, n, fates);
        std::fill(fates.begin() + static_cast<ptrdiff_t>(i), fates.end(), Fate::kLost);
        Check(crash, n, fates);
        fates.assign(pending, Fate::kLost);
        fates[i] = Fate::kKept;
        Check(crash, n, fates);
      }
    }
  }

  void Random(int cases) {
    for (int i = 0; i < cases && violation_.empty(); ++i) {
      // The end, where the promise holds, as often as all prefixes together.
      const size_t n = random_() % 2 == 0 ? log().size() : random_() % (log().size() + 1);
      const Crash crash(disk_.start(), log(), n, ignored_);
      std::vector<Fate> fates(crash.pending().size());
      const uint64_t kept_of_16 = random_() % 17;
      for (Fate& fate : fates) {
        fate = random_() % 16 < kept_of_16 ? Fate::kKept : static_cast<Fate>(1 + random_() % 4);
      }
      Check(crash, n, fates);
    }
  }

 private:
  const std::vector<DiskOperation>& log() const { return disk_.log(); }

  static std::vector<Fate> Fates(const Crash& crash, Fate data, Fate entries) {
    std::vector<Fate> fates;
    for (const size_t index : crash.pending()) {
      const bool is_entry = crash.operation(index).kind == DiskOperation::Kind::kEntries;
      fates.push_back(is_entry ? entries : data);
    }
    return fates;
  }

  void Check(const Crash& crash, size_t operations, const std::vector<Fate>& fates) {
    if (!violation_.empty()) return;
    ++cases_;
    const DiskImage image = crash.Image(fates, random_);
    bool is_new = false;
    const std::string& loaded = loader_.Load(image, &is_new);
    const bool returned = operations == log().size();
    if (loaded != scenario_.new_state && (returned || !scenario_.old_states.contains(loaded))) {
      return Describe(crash, operations, fates, "there is " + loaded);
    }
    if (!is_new || !scenario_.save_again) return;
    ++saved_again_;
    CrashDisk disk(image);
    const Status saved = scenario_.save_again(disk);
    if (!saved.ok()) return Describe(crash, operations, fates, "saving again: " + saved.ToString());
    const std::string& again = loader_.Load(disk.image());
    if (again != scenario_.new_state) {
      Describe(crash, operations, fates, "after saving again there is " + again);
    }
  }

  void Describe(const Crash& crash, size_t operations, const std::vector<Fate>& fates,
                const std::string& what) {
    violation_ =
        absl::StrCat("after ", operations, " of ", log().size(),
                     " operations (last: ", operations == 0 ? "none" : log()[operations - 1].label,
                     ") ", what, "; not kept:");
    for (size_t i = 0; i < fates.size(); ++i) {
      if (fates[i] == Fate::kKept) continue;
      absl::StrAppend(&violation_, " ", log()[crash.pending()[i]].label, ",");
    }
  }

  const Scenario& scenario_;
  const CrashDisk& disk_;
  Loader& loader_;
  int ignored_;
  int64_t cases_ = 0;
  int64_t saved_again_ = 0;
  std::string violation_;
  std::mt19937_64 random_{20};
};

}  // namespace qft
