// One command of the program: it registers its options when made and runs when it was named.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>

namespace qft::cli {

class Command {
 public:
  Command(CLI::App& program, const std::string& name, const std::string& description)
      : app_(program.add_subcommand(name, description)) {}
  virtual ~Command() = default;
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  const CLI::App& app() const { return *app_; }
  // Returns the exit code; throws Failure.
  virtual int Run() = 0;

 protected:
  CLI::App* app_;
};

std::unique_ptr<Command> MakeBench(CLI::App& program);
std::unique_ptr<Command> MakePlan(CLI::App& program);
std::unique_ptr<Command> MakeDoctor(CLI::App& program);
std::unique_ptr<Command> MakeCreate(CLI::App& program);
std::unique_ptr<Command> MakeFinetune(CLI::App& program);
std::unique_ptr<Command> MakeData(CLI::App& program);
std::unique_ptr<Command> MakeEval(CLI::App& program);
std::unique_ptr<Command> MakeGenerate(CLI::App& program);
std::unique_ptr<Command> MakeChat(CLI::App& program);
std::unique_ptr<Command> MakeExport(CLI::App& program);
std::unique_ptr<Command> MakeCheckpoint(CLI::App& program);
std::unique_ptr<Command> MakeInspect(CLI::App& program);

}  // namespace qft::cli
