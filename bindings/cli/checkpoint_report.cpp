#include "bindings/cli/checkpoint_report.h"

#include <algorithm>
#include <cstdio>

#include "bindings/cli/run_folder.h"
#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

using nlohmann::json;
using Report = Handle<qft_checkpoint_report, qft_checkpoint_report_destroy>;

json Parse(const Report& report) {
  const char* text = nullptr;
  size_t length = 0;
  Call(qft_checkpoint_report_get_json, report.get(), &text, &length);
  return json::parse(text, text + length);
}

std::string Text(const json& value, const char* key) {
  return value.at(key).get<std::string>();
}

bool IsDamaged(const json& entry) {
  return entry.at("whole") == false;
}

bool IsWhole(const json& entry) {
  return entry.at("whole") == true;
}

std::string Problem(const json& range) {
  const std::string tensor = Text(range, "tensor");
  std::string place = Text(range, "file");
  if (!tensor.empty()) place += ": " + tensor;
  if (range.at("end") > 0) {
    place += Format(", bytes %lld to %lld", range.at("begin").get<long long>(),
                    range.at("end").get<long long>());
  }
  return place + ": " + Text(range, "problem");
}

// The newest checkpoint that is whole; empty when there is none.
std::string NewestWhole(const json& report) {
  std::string newest;
  for (const json& entry : report.at("entries")) {
    if (Text(entry, "kind") == "checkpoint" && IsWhole(entry)) newest = Text(entry, "name");
  }
  return newest;
}

// What to do about the damaged ones.
void PrintAdvice(const json& report) {
  const std::string folder = Text(report, "folder");
  const std::string newest = NewestWhole(report);
  printf("\na damaged checkpoint can't be repaired: put a copy back, or remove it\n");
  for (const json& entry : report.at("entries")) {
    if (IsDamaged(entry)) printf("  rm -r %s/%s\n", folder.c_str(), Text(entry, "name").c_str());
  }
  if (report.at("entries").size() == 1) return;
  if (newest.empty()) {
    printf("none of them can be loaded\n");
  } else {
    printf("a resume takes %s, the newest that is whole\n", newest.c_str());
  }
}

void PrintNames(const char* verb, const json& entries) {
  for (const json& entry : entries) {
    printf("%-13s %-24s %10s\n", verb, Text(entry, "name").c_str(),
           Bytes(entry.at("bytes").get<double>()).c_str());
  }
}

}  // namespace

std::string CheckpointsOf(const std::string& path) {
  return FindCheckpoint(path).path.string();
}

json ReportCheckpoints(const std::string& path, int32_t check) {
  return Parse(Make<Report>(qft_checkpoint_report_create, path.data(), path.size(), check));
}

json PruneCheckpoints(const std::string& folder, const qft_prune_options& options) {
  return Parse(Make<Report>(qft_checkpoint_prune, folder.data(), folder.size(), &options));
}

bool AllWhole(const json& report) {
  const json& entries = report.at("entries");
  return std::none_of(entries.begin(), entries.end(), IsDamaged) &&
         std::any_of(entries.begin(), entries.end(), IsWhole);
}

std::string StateOf(const json& entry) {
  const std::string kind = Text(entry, "kind");
  if (kind == "temporary")
    return "a save under way, or torn; never loaded, goes after a later save";
  if (kind == "superseded") return "set aside by a resume from an earlier one; never loaded";
  for (const json& range : entry.at("ranges")) {
    if (!Text(range, "problem").empty()) return "damaged: " + Problem(range);
  }
  return "whole";
}

void PrintVerified(const json& report) {
  bool damaged = false;
  for (const json& entry : report.at("entries")) {
    const json& ranges = entry.at("ranges");
    const auto tensors = std::count_if(ranges.begin(), ranges.end(), [](const json& range) {
      return !range.at("tensor").get_ref<const std::string&>().empty();
    });
    if (IsWhole(entry)) {
      printf("%-24s whole, %s, %lld tensors\n", Text(entry, "name").c_str(),
             Bytes(entry.at("bytes").get<double>()).c_str(), static_cast<long long>(tensors));
    } else if (IsDamaged(entry)) {
      damaged = true;
      printf("%-24s damaged\n", Text(entry, "name").c_str());
      for (const json& range : ranges) {
        if (!Text(range, "problem").empty()) printf("  %s\n", Problem(range).c_str());
      }
    } else {
      printf("%-24s %s\n", Text(entry, "name").c_str(), StateOf(entry).c_str());
    }
  }
  if (damaged) {
    PrintAdvice(report);
  } else if (!AllWhole(report)) {
    printf("%s: no checkpoints\n", Text(report, "folder").c_str());
  }
}

void PrintPruned(const json& report) {
  const bool dry_run = report.at("dry_run").get<bool>();
  PrintNames(dry_run ? "would remove" : "removed", report.at("removed"));
  for (const json& entry : report.at("kept")) {
    printf("%-13s %-24s %10s  %s\n", "kept", Text(entry, "name").c_str(),
           Bytes(entry.at("bytes").get<double>()).c_str(), StateOf(entry).c_str());
  }
  printf("%s %s\n", dry_run ? "would free" : "freed",
         Bytes(report.at("freed_bytes").get<double>()).c_str());
}

}  // namespace qft::cli
