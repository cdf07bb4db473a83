// The power goes at every operation of a save: whatever of the operations that were not synced the
// disk then holds, the old state can be loaded or the new one, and once the save has returned only
// the new one. Then the same with each sync left out: it must be noticed.
#include <chrono>
#include <iostream>

#include "runtime/checkpoint_retention.h"
#include "runtime/checkpoint_save.h"
#include "runtime/data/safetensors.h"
#include "tests/runtime/session/crash_enumeration.h"
#include "tests/runtime/session/fault_file_system.h"

namespace qft {
namespace {

constexpr char kFolder[] = "/run/checkpoints";
constexpr size_t kScenarios = 10;
constexpr int kRandomCases = 1200;  // for each scenario

// Sessions after training on the given batches.
class Trained {
 public:
  Session& After(const std::vector<int>& batches) {
    std::unique_ptr<Session>& session = sessions_[batches];
    if (session == nullptr) {
      session = OpenTiny(model_);
      for (const int batch : batches) StepTiny(*session, batch);
    }
    return *session;
  }
  std::string HashAfter(const std::vector<int>& batches) { return HashOf(After(batches)); }

  // The hash of what the newest checkpoint holds.
  std::string Load(CrashDisk& disk, const std::string& folder) {
    const StatusOr<CheckpointFiles> checkpoint = OpenCheckpoint(disk, folder);
    if (GetErrorInfo(checkpoint.status()).code == ErrorCode::kNotFound) return kNothing;
    if (!checkpoint.ok()) return checkpoint.status().ToString();
    const Status restored = RestoreCheckpoint(*loader_, disk, *checkpoint);
    return restored.ok() ? HashOf(*loader_) : restored.ToString();
  }

 private:
  std::shared_ptr<const Model> model_ = TinyModel(1);
  std::unique_ptr<Session> loader_ = OpenTiny(model_);
  std::map<std::vector<int>, std::unique_ptr<Session>> sessions_;
};

Trained& Tiny() {
  static Trained trained;
  return trained;
}

void Save(FileSystem& disk, const std::vector<int>& batches) {
  ASSERT_EQ(SaveTo(Tiny().After(batches), disk, kFolder), absl::OkStatus());
}

// What qft_session_save does.
Status SaveAndPrune(FileSystem& fs, const std::vector<int>& batches, int64_t keep,
                    const std::string& folder = kFolder) {
  Session& session = Tiny().After(batches);
  QFT_ASSIGN_OR_RETURN(const CheckpointContent content, ContentOf(session, ""));
  return SaveCheckpoint(content, fs, folder, keep);
}

// A save that is killed before it syncs the folder in which it has renamed.
void CommitUnsynced(CrashDisk& disk, const std::vector<int>& batches) {
  FaultFileSystem fs(disk);
  const auto save = PreparedSave::Prepare(Tiny().After(batches), fs, kFolder, "").value();
  fs.FailAt(3, true, EIO);  // 1 exists, 2 rename or exchange, 3 sync
  ASSERT_FALSE(save->Commit().ok());
}

constexpr char kOfTheWriter[] = "makes the file durable, see AFileOfTheWriter";
constexpr char kFolderIsThere[] = "the folder is durable; see a folder that was not synced";
constexpr char kSyncedAgain[] =
    "the next sync of the folder comes before anything is removed; see "
    "next step, same step again";
constexpr char kWasSynced[] = "the commit has just synced; see pruning after a killed save";

class Scenarios {
 public:
  static Scenario First() {
    return {.name = "first save, three folders deep",
            .save = [](CrashDisk& disk) { return SaveAndPrune(disk, {1}, 0, "/a/b/c"); },
            .save_again = [](CrashDisk& disk) { return SaveAndPrune(disk, {1}, 0, "/a/b/c"); },
            .old_states = {kNothing},
            .new_state = Tiny().HashAfter({1}),
            .idle = {{"sync /a/b 1", "synced again by the save itself"},
                     {"sync /a/b 2", "synced when c was made"},
                     {"sync /a/b/c/step_1.tmp 1", kOfTheWriter}}};
  }
  static Scenario FolderNotSynced() {
    return {.name = "a folder that was not synced",
            .before = [](CrashDisk& disk) { EXPECT_TRUE(disk.MakeDirectory("/run").ok()); },
            .killed = [](CrashDisk& disk) { EXPECT_TRUE(disk.MakeDirectory(kFolder).ok()); },
            .save = Saves({1}, 0),
            .save_again = Saves({1}, 0),
            .old_states = {kNothing},
            .new_state = Tiny().HashAfter({1}),
            .idle = {{"sync /run/checkpoints/step_1.tmp 1", kOfTheWriter}}};
  }
  static Scenario NextStep(int64_t keep) {
    Scenario scenario = {.name = keep > 0 ? "next step, pruning" : "next step",
                         .before = [](CrashDisk& disk) { Save(disk, {1}); },
                         .save = Saves({1, 2}, keep),
                         .save_again = Saves({1, 2}, keep),
                         .old_states = {Tiny().HashAfter({1})},
                         .new_state = Tiny().HashAfter({1, 2}),
                         .idle = Idle()};
    if (keep > 0) {
      scenario.idle["sync /run/checkpoints 1"] = kSyncedAgain;
      scenario.idle["sync /run/checkpoints 2"] = kWasSynced;
    }
    return scenario;
  }
  static Scenario SameStep() {
    Scenario scenario = {.name = "same step again",
                         .before =
                             [](CrashDisk& disk) {
                               Save(disk, {1, 2});
                             },
                         .save = Saves({1, 7}, 1),
                         .save_again = Saves({1, 7}, 1),
                         .old_states = {Tiny().HashAfter({1, 2})},
                         .new_state = Tiny().HashAfter({1, 7}),
                         .idle = Idle()};
    scenario.idle["sync /run/checkpoints 2"] = kWasSynced;
    return scenario;
  }
  // Steps 2, 3 and 4 are of a course that was left by resuming from step 1.
  static Scenario OtherCourse(int64_t keep) {
    Scenario scenario = {.name = keep > 0 ? "another course, pruning" : "another course",
                         .before =
                             [](CrashDisk& disk) {
                               Save(disk, {1});
                               Save(disk, {1, 2, 3});
                               EXPECT_TRUE(SetAsideLater(disk, kFolder, 1).ok());
                               for (const auto& batches : std::vector<std::vector<int>>{
                                        {1, 2}, {1, 2, 3}, {1, 2, 3, 4}}) {
                                 Save(disk, batches);
                               }
                             },
                         .save = Saves({1, 7}, keep),
                         .save_again = Saves({1, 7}, keep),
                         .old_states = {Tiny().HashAfter({1, 2, 3, 4})},
                         .new_state = Tiny().HashAfter({1, 7}),
                         .idle = Idle()};
    scenario.idle["sync /run/checkpoints 1"] = kSyncedAgain;
    if (keep > 0) {
      scenario.idle["sync /run/checkpoints 3"] = "pruning syncs again; see another course";
      scenario.idle["sync /run/checkpoints 4"] = kWasSynced;
    }
    return scenario;
  }
  static Scenario PruneAfterKilledSave() {
    return AfterKill("pruning after a killed save", {1}, {1, 2}, [](CrashDisk& disk) {
      return PruneCheckpoints(disk, kFolder, {.keep = 1}).status();
    });
  }
  static Scenario PruneAfterKilledReplacement() {
    return AfterKill("pruning after a killed replacement", {1, 2}, {1, 7}, [](CrashDisk& disk) {
      return PruneCheckpoints(disk, kFolder, {.keep = 1}).status();
    });
  }
  static Scenario KilledReplacementAgain() {
    Scenario scenario = AfterKill("a killed replacement again", {1, 2}, {1, 7}, Saves({1, 7}, 0));
    scenario.idle["sync /run 2"] = kFolderIsThere;
    scenario.idle["sync /run/checkpoints/step_2.tmp 3"] = kOfTheWriter;
    return scenario;
  }
  static std::vector<Scenario> All() {
    return {First(),
            FolderNotSynced(),
            NextStep(0),
            NextStep(1),
            SameStep(),
            OtherCourse(0),
            OtherCourse(1),
            PruneAfterKilledSave(),
            PruneAfterKilledReplacement(),
            KilledReplacementAgain()};
  }

 private:
  static std::function<Status(CrashDisk&)> Saves(const std::vector<int>& batches, int64_t keep) {
    return [batches, keep](CrashDisk& disk) { return SaveAndPrune(disk, batches, keep); };
  }
  static std::map<std::string, std::string> Idle() {
    return {{"sync /run 1", kFolderIsThere}, {"sync /run/checkpoints/step_2.tmp 1", kOfTheWriter}};
  }
  static Scenario AfterKill(const std::string& name, const std::vector<int>& old_batches,
                            const std::vector<int>& new_batches,
                            std::function<Status(CrashDisk&)> save) {
    return {.name = name,
            .before = [old_batches](CrashDisk& disk) { Save(disk, old_batches); },
            .killed = [new_batches](CrashDisk& disk) { CommitUnsynced(disk, new_batches); },
            .save = std::move(save),
            .save_again = Saves(new_batches, 0),
            .old_states = {Tiny().HashAfter(old_batches)},
            .new_state = Tiny().HashAfter(new_batches),
            .idle = Idle()};
  }
};

// The loader of a scenario's folder.
Loader& LoaderOf(const Scenario& scenario) {
  static std::map<std::string, Loader> loaders;
  const std::string folder = scenario.name == Scenarios::First().name ? "/a/b/c" : kFolder;
  const auto load = [folder](CrashDisk& disk) { return Tiny().Load(disk, folder); };
  return loaders.try_emplace(folder, load).first->second;
}

// "sync /run/checkpoints 2": the second sync of that path.
std::vector<std::pair<int, std::string>> SyncsOf(const std::vector<DiskOperation>& log) {
  std::map<std::string, int> numbers;
  std::vector<std::pair<int, std::string>> syncs;
  for (size_t i = 0; i < log.size(); ++i) {
    if (log[i].kind != DiskOperation::Kind::kSync) continue;
    syncs.emplace_back(static_cast<int>(i),
                       absl::StrCat(log[i].label, " ", ++numbers[log[i].label]));
  }
  return syncs;
}

void ExpectOldOrNew(const Scenario& scenario, Loader& loader) {
  const auto start = std::chrono::steady_clock::now();
  CrashDisk disk;
  Record(scenario, disk);
  Enumeration enumeration(scenario, disk, loader);
  enumeration.EveryPrefix();
  enumeration.EveryOperation();
  const int64_t systematic = enumeration.cases();
  enumeration.Random(kRandomCases);
  EXPECT_EQ(enumeration.violation(), "") << scenario.name;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::cout << scenario.name << ": " << disk.log().size() + 1 << " prefixes, " << systematic
            << " systematic and " << enumeration.cases() - systematic
            << " random cases, saved again " << enumeration.saved_again() << " times, "
            << took.count() << " s\n";
}

void ExpectEverySyncNeeded(const Scenario& scenario, Loader& loader) {
  CrashDisk disk;
  Record(scenario, disk);
  size_t idle = 0;
  for (const auto& [index, label] : SyncsOf(disk.log())) {
    Enumeration enumeration(scenario, disk, loader, index);
    enumeration.EveryPrefix();
    enumeration.EveryOperation();
    const bool expected_idle = scenario.idle.contains(label);
    idle += expected_idle ? 1 : 0;
    EXPECT_EQ(enumeration.violation().empty(), expected_idle)
        << scenario.name << ": " << label << ": " << enumeration.violation();
    std::cout << label << ": "
              << (expected_idle ? scenario.idle.at(label) : enumeration.violation().substr(0, 160))
              << "\n";
  }
  EXPECT_EQ(idle, scenario.idle.size()) << "a sync that is listed as idle does not happen";
}

class CrashTest : public testing::TestWithParam<size_t> {
 protected:
  const Scenario scenario_ = Scenarios::All()[GetParam()];
};

TEST_P(CrashTest, OldOrNewAndNewOnceItReturned) {
  ExpectOldOrNew(scenario_, LoaderOf(scenario_));
}

TEST_P(CrashTest, EverySyncIsNeeded) {
  Scenario scenario = scenario_;
  scenario.save_again = nullptr;  // of what an ignored sync breaks the first sign is enough
  ExpectEverySyncNeeded(scenario, LoaderOf(scenario));
}

INSTANTIATE_TEST_SUITE_P(All, CrashTest, testing::Range<size_t>(0, kScenarios));

TEST(Crash, EveryScenarioRuns) {
  EXPECT_EQ(Scenarios::All().size(), kScenarios);
}

// A file that SafetensorsWriter replaces: what Finish promises, whatever is around it.
Scenario WriterScenario() {
  const auto write = [](CrashDisk& disk, float value) -> Status {
    const TensorInfo info = {.name = "x", .shape = {1}, .type = StoredType::kF32};
    QFT_ASSIGN_OR_RETURN(const auto writer, SafetensorsWriter::Create(disk, "/file", {info}, {}));
    QFT_RETURN_IF_ERROR(writer->Append(&value, sizeof(value)));
    return writer->Finish();
  };
  return {.name = "a file of the writer",
          .before = [write](CrashDisk& disk) { EXPECT_TRUE(write(disk, 1).ok()); },
          .save = [write](CrashDisk& disk) { return write(disk, 2); },
          .save_again = [write](CrashDisk& disk) { return write(disk, 2); },
          .old_states = {"1"},
          .new_state = "2"};
}

std::string LoadWritten(CrashDisk& disk) {
  float value = 0;
  const auto file = OpenSafetensorsFile(disk, "/file");
  if (!file.ok()) return file.status().ToString();
  const Status read = file->tensors->ReadBytes("x", 0, sizeof(value), &value);
  return read.ok() ? absl::StrCat(value) : read.ToString();
}

TEST(Crash, AFileOfTheWriter) {
  Loader loader(LoadWritten);
  ExpectOldOrNew(WriterScenario(), loader);
  ExpectEverySyncNeeded(WriterScenario(), loader);
}

// A process that is killed anywhere in a save, one that goes on from what it left, and then the
// power goes.
void ExpectOldOrNewAfterEveryKill(const std::vector<int>& before, const std::vector<int>& killed,
                                  const std::vector<int>& saved, int64_t keep) {
  int64_t cases = 0;
  bool killed_all = false;
  int n = 1;
  for (; !killed_all; ++n) {
    Scenario scenario;
    scenario.name = absl::StrCat("killed at operation ", n);
    scenario.before = [&](CrashDisk& disk) { Save(disk, before); };
    scenario.killed = [&](CrashDisk& disk) {
      FaultFileSystem fs(disk);
      fs.FailAt(n, true, EIO);
      killed_all = SaveAndPrune(fs, killed, keep).ok() && !fs.failed;
    };
    scenario.save = [&](CrashDisk& disk) { return SaveAndPrune(disk, saved, keep); };
    scenario.old_states = {Tiny().HashAfter(before), Tiny().HashAfter(killed)};
    scenario.new_state = Tiny().HashAfter(saved);
    CrashDisk disk;
    Record(scenario, disk);
    Enumeration enumeration(scenario, disk, LoaderOf(scenario));
    enumeration.EveryPrefix();
    enumeration.Random(20);
    ASSERT_EQ(enumeration.violation(), "") << scenario.name;
    cases += enumeration.cases();
  }
  EXPECT_GT(n, 50);
  std::cout << n - 1 << " kills, " << cases << " cases\n";
}

TEST(Crash, AfterAKillInASaveTheSameStepAgain) {
  ExpectOldOrNewAfterEveryKill({1}, {1, 2}, {1, 2}, 1);
}
TEST(Crash, AfterAKillInASaveTheNextStep) {
  ExpectOldOrNewAfterEveryKill({1}, {1, 2}, {1, 2, 3}, 1);
}
TEST(Crash, AfterAKillInAReplacementTheSameStepAgain) {
  ExpectOldOrNewAfterEveryKill({1, 2}, {1, 7}, {1, 7}, 1);
}
TEST(Crash, AfterAKillInAReplacementTheNextStep) {
  ExpectOldOrNewAfterEveryKill({1, 2}, {1, 7}, {1, 7, 3}, 1);
}

}  // namespace
}  // namespace qft
