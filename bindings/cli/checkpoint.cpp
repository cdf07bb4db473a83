#include <sys/stat.h>

#include <cstdio>
#include <ctime>

#include "bindings/cli/checkpoint_report.h"
#include "bindings/cli/command.h"
#include "bindings/cli/files.h"
#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

using nlohmann::json;

constexpr char kCheckpointExample[] =
    "Example:\n"
    "  qft checkpoint list runs/first\n"
    "  qft checkpoint verify runs/first\n"
    "  qft checkpoint prune runs/first --keep 2 --keep-every 1000 --dry-run\n\n"
    "PATH is a run, its folder of checkpoints or one of them.";

class CheckpointCommand : public Command {
 public:
  explicit CheckpointCommand(CLI::App& program)
      : Command(program, "checkpoint", "List, verify or remove the checkpoints of a run") {
    app_->require_subcommand(1);
    app_->footer(kCheckpointExample);
    list_ = AddPart("list", "Every checkpoint: step, date, bytes and what is wrong at a glance");
    verify_ = AddPart("verify", "Read all of them: which bytes of which tensor are damaged");
    prune_ = AddPart("prune", "Remove old checkpoints and what torn saves left behind");
    prune_->add_option("--keep", keep_, "Whole checkpoints that stay, the newest")
        ->required()
        ->check(CLI::PositiveNumber);
    prune_
        ->add_option("--keep-every", keep_every_,
                     "Keep the first one of every so many steps too; 0: no more")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    prune_->add_flag("--superseded", superseded_, "Remove what a resume has set aside, too");
    prune_->add_flag("--dry-run", dry_run_, "Only tell what would be removed");
  }

  int Run() override {
    if (list_->parsed()) return List();
    return verify_->parsed() ? Verify() : Prune();
  }

 private:
  CLI::App* AddPart(const std::string& name, const std::string& description) {
    CLI::App* part = app_->add_subcommand(name, description);
    part->add_option("path", path_, "A run, its folder of checkpoints or one of them")->required();
    part->add_flag("--json", json_, "Print a JSON object");
    part->footer(kCheckpointExample);
    return part;
  }

  int List() const {
    const std::string folder = CheckpointsOf(path_);
    json report = ReportCheckpoints(folder, QFT_CHECKPOINT_CHECK_SIZES);
    for (json& entry : report.at("entries")) entry["saved"] = SavedAt(report, entry);
    if (json_) {
      printf("%s\n", Dump(report, 2).c_str());
      return 0;
    }
    printf("%-24s %10s  %-19s %10s  %s\n", "name", "step", "saved", "size", "state");
    for (const json& entry : report.at("entries")) {
      printf("%-24s %10lld  %-19s %10s  %s\n", entry.at("name").get<std::string>().c_str(),
             entry.at("step").get<long long>(), entry.at("saved").get<std::string>().c_str(),
             Bytes(entry.at("bytes").get<double>()).c_str(), StateOf(entry).c_str());
    }
    if (report.at("entries").empty()) printf("%s: no checkpoints\n", folder.c_str());
    return 0;
  }

  // When its last file was written, in local time; empty where that can't be told.
  static std::string SavedAt(const json& report, const json& entry) {
    const std::filesystem::path folder = report.at("folder").get<std::string>();
    const std::filesystem::path path = folder / entry.at("name").get<std::string>();
    struct stat info = {};
    if (stat((path / "manifest.json").c_str(), &info) != 0 && stat(path.c_str(), &info) != 0) {
      return "";
    }
    tm parts = {};
    localtime_r(&info.st_mtime, &parts);
    char text[32];
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
    return text;
  }

  int Verify() const {
    const std::string folder = CheckpointsOf(path_);
    const json report = ReportCheckpoints(folder, QFT_CHECKPOINT_CHECK_HASHES);
    const bool whole = AllWhole(report);
    if (json_) {
      printf("%s\n", Dump(report, 2).c_str());
    } else {
      PrintVerified(report);
    }
    return whole ? 0 : kExitFailure;
  }

  int Prune() const {
    const std::string folder = CheckpointsOf(path_);
    qft_prune_options options = Sized<qft_prune_options>();
    options.keep = keep_;
    options.keep_every = keep_every_;
    options.superseded = superseded_ ? 1 : 0;
    options.dry_run = dry_run_ ? 1 : 0;
    const json report = PruneCheckpoints(folder, options);
    if (json_) {
      printf("%s\n", Dump(report, 2).c_str());
    } else {
      PrintPruned(report);
    }
    return 0;
  }

  CLI::App* list_ = nullptr;
  CLI::App* verify_ = nullptr;
  CLI::App* prune_ = nullptr;
  std::string path_;
  bool json_ = false;
  int64_t keep_ = 0;
  int64_t keep_every_ = 0;
  bool superseded_ = false;
  bool dry_run_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeCheckpoint(CLI::App& program) {
  return std::make_unique<CheckpointCommand>(program);
}

}  // namespace qft::cli
