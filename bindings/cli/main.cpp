#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>

#include "bindings/cli/command.h"
#include "bindings/cli/finetune.h"
#include "bindings/cli/handles.h"
#include "bindings/cli/help.h"
#include "bindings/cli/interrupt.h"

namespace qft::cli {
namespace {

CLI::App* FindCommand(CLI::App* program, const std::string& name) {
  try {
    return program->get_subcommand(name);
  } catch (const CLI::OptionNotFound&) {
    throw Usage("there is no command '" + name + "'");
  }
}

// CLI11 takes its arguments last first.
void Parse(CLI::App* program, std::vector<std::string> arguments) {
  if (!arguments.empty() && arguments.front().rfind('-', 0) != 0) {
    const CLI::App* command = FindCommand(program, arguments.front());
    if (arguments.front() == "finetune") arguments = WithConfiguration(arguments, *command);
  }
  std::reverse(arguments.begin(), arguments.end());
  program->parse(arguments);
}

int Run(const std::vector<std::string>& arguments) {
  Call(qft_check_abi, uint32_t{QFT_ABI_VERSION});
  CLI::App program("Full-parameter fine-tuning of LLaMA-family models in INT8", "qft");
  program.set_version_flag("--version", std::string("qft ") + qft_version_string());
  program.require_subcommand(1);
  program.formatter(std::make_shared<HelpFormatter>());
  program.footer("`qft COMMAND --help` tells what a command takes.");
  std::vector<std::unique_ptr<Command>> commands;
  for (const auto& make :
       {MakeFinetune, MakeData, MakeEval, MakeGenerate, MakeChat, MakeExport, MakeInspect,
        MakeCheckpoint, MakeCreate, MakePlan, MakeBench, MakeDoctor}) {
    commands.push_back(make(program));
  }
  try {
    Parse(&program, arguments);
  } catch (const CLI::CallForHelp& help) {
    return program.exit(help);
  } catch (const CLI::CallForVersion& version) {
    return program.exit(version);
  } catch (const CLI::ParseError& error) {
    throw Usage(error.what());
  }
  for (const auto& command : commands) {
    if (command->app().parsed()) return command->Run();
  }
  return 0;
}

int RunGuarded(const std::vector<std::string>& arguments) {
  try {
    return Run(arguments);
  } catch (const Failure& failure) {
    fprintf(stderr, "qft: %s\n", failure.what());
    if (failure.exit_code() == kExitUsage) fprintf(stderr, "qft: see `qft COMMAND --help`\n");
    return failure.exit_code();
  } catch (const std::bad_alloc&) {
    fprintf(stderr, "qft: out of memory\n");
  } catch (const std::exception& error) {
    fprintf(stderr, "qft: %s\n", error.what());
  }
  return kExitFailure;
}

}  // namespace
}  // namespace qft::cli

int main(int argc, char** argv) {
  qft::cli::CatchInterrupts();
  return qft::cli::RunGuarded(std::vector<std::string>(argv + 1, argv + argc));
}
