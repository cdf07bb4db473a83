// Every file operation and every allocation of a call fails once, and from there on for ever: the
// call says what happened or succeeds, nothing leaks, the session can be used or says that it
// can't, and the last checkpoint loads.
#include <fcntl.h>
#include <sys/stat.h>

#include <iostream>
#include <limits>

#include "tests/abi/faults/injection.h"
#include "tests/abi/faults/world.h"

namespace qft {
namespace {

namespace fs = std::filesystem;

// Of each kind, once and for ever; all with QFT_EVERY_FAILURE set.
constexpr int64_t kMostTried = 200;

class NthFailure : public World {
 protected:
  struct Phase {
    std::function<void()> prepare;
    std::function<qft_status(qft_error**)> call;
    // After the failure, with nothing failing any more.
    std::function<void(const Outcome&)> check;
    // Frees what prepare and call made.
    std::function<void()> finish;
  };

  Outcome Run(const Phase& phase, const injection::Plan& plan) {
    phase.prepare();
    qft_error* error = nullptr;
    injection::Start(plan);
    const qft_status status = phase.call(&error);
    injection::Stop();
    return OutcomeOf(status, error);
  }

  static int64_t OpenDescriptors() {
    return std::distance(fs::directory_iterator("/proc/self/fd"), {});
  }

  void RunAndCheck(const Phase& phase, const injection::Plan& plan) {
    const Outcome outcome = Run(phase, plan);
    CheckStatus(outcome, plan.fail_file > 0);
    phase.check(outcome);
    phase.finish();
  }

  void ForEach(const Phase& phase, bool files, int64_t count) {
    int64_t failures = 0;
    const bool all = std::getenv("QFT_EVERY_FAILURE") != nullptr;
    const int64_t stride = all ? 1 : std::max<int64_t>(1, count / kMostTried);
    for (const bool for_ever : {false, true}) {
      for (int64_t n = 1; n <= count; n += stride) {
        SCOPED_TRACE(testing::Message()
                     << (files ? "file operation " : "allocation ") << n << " of " << count
                     << (for_ever ? ", and all after it" : ""));
        const int64_t live = injection::LiveAllocations();
        const auto descriptors = OpenDescriptors();
        injection::Plan plan;
        (files ? plan.fail_file : plan.fail_new) = n;
        plan.for_ever = for_ever;
        plan.error = n % 2 == 0 ? ENOSPC : EIO;
        RunAndCheck(phase, plan);
        failures += injection::Failed() ? 1 : 0;
        EXPECT_EQ(OpenDescriptors(), descriptors);
        EXPECT_LE(injection::LiveAllocations(), live) << "leaked";
        if (HasFailure()) return;
      }
    }
    std::cout << (files ? "file operations: " : "allocations: ") << failures << " failures\n";
  }

  void CheckStatus(const Outcome& outcome, bool files) {
    if (outcome.status == QFT_OK) return;
    EXPECT_NE(outcome.message, "");
    EXPECT_NE(outcome.status, QFT_ERROR_INTERNAL) << outcome.message;
    if (!files) return;
    EXPECT_TRUE(outcome.status / 1000 == QFT_ERROR_IO / 1000 ||
                outcome.status == QFT_ERROR_NOT_FOUND)
        << outcome.status << ": " << outcome.message;
  }

  void EveryFailure(const Phase& phase) {
    // Twice: the first call of a kind fills what is kept for later ones.
    for (int i = 0; i < 2; ++i) {
      const Outcome outcome = Run(phase, {.fail_new = std::numeric_limits<int64_t>::max()});
      ASSERT_EQ(outcome.status, QFT_OK) << outcome.message;
      phase.check(outcome);
      phase.finish();
    }
    const int64_t files = injection::FileOperations();
    const int64_t news = injection::Allocations();
    std::cout << files << " file operations, " << news << " allocations\n";
    ForEach(phase, true, files);
    ForEach(phase, false, news);
  }
};

TEST_F(NthFailure, ModelLoad) {
  qft_session* session = Open();
  const std::string folder = root_ + "/exported";
  Must([&](qft_error** error) {
    return qft_export(session, model_, nullptr, folder.data(), folder.size(), error);
  });
  qft_session_destroy(session);
  qft_model* model = nullptr;
  const auto load = [&](qft_error** error) {
    return qft_model_load(folder.data(), folder.size(), &model, error);
  };
  EveryFailure({[] {}, load,
                [&](const Outcome& outcome) {
                  EXPECT_EQ(outcome.status == QFT_OK, model != nullptr);
                  qft_model_destroy(model);
                  model = nullptr;
                  Must(load);
                },
                [&] {
                  qft_model_destroy(model);
                  model = nullptr;
                }});
}

TEST_F(NthFailure, SessionOpen) {
  const std::string hash = HashAt(0);
  qft_session* session = nullptr;
  EveryFailure({[] {},
                [&](qft_error** error) {
                  return qft_session_open(model_, config_, nullptr, &session, error);
                },
                [&](const Outcome& outcome) {
                  EXPECT_EQ(outcome.status == QFT_OK, session != nullptr);
                  if (session == nullptr) session = Open();
                  EXPECT_EQ(HashOf(session), hash);
                },
                [&] {
                  qft_session_destroy(session);
                  session = nullptr;
                }});
}

// Of a limit too small, so that what would fit is looked for too.
TEST_F(NthFailure, Plan) {
  qft_config* config = nullptr;
  Must([&](qft_error** error) { return qft_config_create(&config, error); });
  const auto set = [&](const std::string& key, const std::string& value) {
    Must([&](qft_error** error) {
      return qft_config_set_text(config, key.data(), key.size(), value.data(), value.size(), error);
    });
  };
  set("engine", "cuda");
  set("memory_limit", "910000000");
  set("micro_batch_tokens", "65536");
  const std::string device = "h100-80gb";
  qft_plan_options options{};
  options.struct_size = sizeof(options);
  options.device = device.data();
  options.device_length = device.size();
  qft_plan* plan = nullptr;
  EveryFailure(
      {[] {},
       [&](qft_error** error) { return qft_plan_create(model_, config, &options, &plan, error); },
       [&](const Outcome& outcome) {
         EXPECT_EQ(outcome.status == QFT_OK, plan != nullptr);
         if (plan == nullptr) return;
         const char* json = nullptr;
         size_t length = 0;
         Must([&](qft_error** error) { return qft_plan_get_json(plan, &json, &length, error); });
         EXPECT_NE(std::string(json).find(R"("would_fit":[{)"), std::string::npos) << json;
       },
       [&] {
         qft_plan_destroy(plan);
         plan = nullptr;
       }});
  qft_config_destroy(config);
}

TEST_F(NthFailure, Step) {
  HashAt(2);
  qft_session* session = nullptr;
  EveryFailure({[&] {
                  session = Open();
                  StepTo(session, 1);
                },
                [&](qft_error** error) { return Step(session, 1, error); },
                [&](const Outcome& outcome) {
                  if (HashOf(session).empty()) {
                    EXPECT_NE(outcome.status, QFT_OK);
                    return;
                  }
                  EXPECT_EQ(StepOf(session), outcome.status == QFT_OK ? 2 : 1);
                  StepTo(session, 2);
                  EXPECT_EQ(HashOf(session), HashAt(2));
                },
                [&] { qft_session_destroy(session); }});
}

TEST_F(NthFailure, FirstStep) {
  HashAt(1);
  qft_session* session = nullptr;
  EveryFailure({[&] { session = Open(); },
                [&](qft_error** error) { return Step(session, 0, error); },
                [&](const Outcome& outcome) {
                  if (HashOf(session).empty()) {
                    EXPECT_NE(outcome.status, QFT_OK);
                    return;
                  }
                  EXPECT_EQ(StepOf(session), outcome.status == QFT_OK ? 1 : 0);
                  StepTo(session, 1);
                  EXPECT_EQ(HashOf(session), HashAt(1));
                },
                [&] { qft_session_destroy(session); }});
}

TEST_F(NthFailure, Save) {
  qft_session* session = Open();
  StepTo(session, 1);
  Must([&](qft_error** error) { return Save(session, 1, error); });
  StepTo(session, 2);
  const std::string saved = root_ + "/saved";
  fs::rename(folder_, saved);
  EveryFailure({[&] {
                  fs::remove_all(folder_);
                  fs::copy(saved, folder_, fs::copy_options::recursive);
                },
                [&](qft_error** error) { return Save(session, 1, error); },
                [&](const Outcome& outcome) {
                  const int64_t step = Newest();
                  EXPECT_TRUE(step == 2 || (step == 1 && outcome.status != QFT_OK)) << step;
                  EXPECT_EQ(HashOf(session), HashAt(2));
                  Must([&](qft_error** error) { return Save(session, 1, error); });
                  EXPECT_EQ(Newest(), 2);
                  EXPECT_FALSE(fs::exists(folder_ + "/step_1"));
                  EXPECT_FALSE(fs::exists(folder_ + "/step_2.tmp"));
                },
                [] {}});
  qft_session_destroy(session);
}

TEST_F(NthFailure, PrepareAndDrop) {
  qft_session* session = Open();
  StepTo(session, 1);
  Must([&](qft_error** error) { return Save(session, 1, error); });
  StepTo(session, 2);
  EveryFailure({[] {},
                [&](qft_error** error) {
                  qft_save* save = nullptr;
                  const qft_status status = qft_save_prepare(
                      session, folder_.data(), folder_.size(), nullptr, 0, &save, error);
                  EXPECT_EQ(status == QFT_OK, save != nullptr);
                  qft_save_destroy(save);
                  return status;
                },
                [&](const Outcome&) {
                  EXPECT_EQ(Newest(), 1);
                  EXPECT_EQ(HashOf(session), HashAt(2));
                },
                [] {}});
  qft_session_destroy(session);
}

TEST_F(NthFailure, CheckpointOpen) {
  qft_session* session = Open();
  for (const int64_t step : {1, 2}) {
    StepTo(session, step);
    Must([&](qft_error** error) { return Save(session, 0, error); });
  }
  qft_checkpoint* checkpoint = nullptr;
  EveryFailure({[] {}, [&](qft_error** error) { return OpenCheckpoint(&checkpoint, error); },
                [&](const Outcome& outcome) {
                  EXPECT_EQ(outcome.status == QFT_OK, checkpoint != nullptr);
                  EXPECT_EQ(Newest(), 2);
                },
                [&] {
                  qft_checkpoint_destroy(checkpoint);
                  checkpoint = nullptr;
                }});
  qft_session_destroy(session);
}

TEST_F(NthFailure, Restore) {
  qft_session* session = Open();
  StepTo(session, 2);
  Must([&](qft_error** error) { return Save(session, 0, error); });
  qft_session_destroy(session);
  qft_checkpoint* checkpoint = nullptr;
  Must([&](qft_error** error) { return OpenCheckpoint(&checkpoint, error); });
  EveryFailure({[&] { session = Open(); },
                [&](qft_error** error) { return qft_session_restore(session, checkpoint, error); },
                [&](const Outcome& outcome) {
                  const std::string hash = HashOf(session);
                  if (hash.empty()) {
                    EXPECT_NE(outcome.status, QFT_OK);
                    return;
                  }
                  const int64_t step = StepOf(session);
                  EXPECT_EQ(step, outcome.status == QFT_OK ? 2 : 0);
                  EXPECT_EQ(hash, HashAt(step));
                  StepTo(session, 3);
                  EXPECT_EQ(HashOf(session), HashAt(3));
                },
                [&] { qft_session_destroy(session); }});
  qft_checkpoint_destroy(checkpoint);
}

TEST_F(NthFailure, Export) {
  qft_session* session = Open();
  const std::string folder = root_ + "/exported";
  const auto run = [&](qft_error** error) {
    return qft_export(session, model_, nullptr, folder.data(), folder.size(), error);
  };
  EveryFailure({[&] {
                  fs::remove_all(folder);
                  fs::remove_all(folder + ".partial");
                },
                run,
                [&](const Outcome& outcome) {
                  EXPECT_TRUE(outcome.status != QFT_OK || fs::exists(folder));
                  if (!fs::exists(folder)) {
                    fs::remove_all(folder + ".partial");
                    Must(run);
                  }
                  qft_model* model = nullptr;
                  Must([&](qft_error** error) {
                    return qft_model_load(folder.data(), folder.size(), &model, error);
                  });
                  qft_model_destroy(model);
                  EXPECT_EQ(HashOf(session), HashAt(0));
                },
                [] {}});
  qft_session_destroy(session);
}

}  // namespace
}  // namespace qft
