#include "runtime/c_api/handle.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace qft {
namespace {

struct Dog {
  explicit Dog(int* alive) : alive(alive) { ++*alive; }
  ~Dog() { --*alive; }
  int* alive;
  int barks = 0;
};
struct Cat {};

}  // namespace

template <>
struct HandleOf<Dog> {
  using type = qft_session;
};
template <>
struct HandleOf<Cat> {
  using type = qft_tokenizer;
};

namespace {

ErrorCode CodeOf(const Status& status) {
  return GetErrorInfo(status).code;
}

class HandleTest : public testing::Test {
 protected:
  qft_session* NewDog() { return AddHandle(std::make_shared<Dog>(&alive_)); }
  int alive_ = 0;
};

TEST_F(HandleTest, FindsWhatWasAddedUntilItIsRemoved) {
  qft_session* handle = NewDog();
  EXPECT_EQ(alive_, 1);
  {
    const auto found = FindHandle<Dog>(handle);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ((*found)->alive, &alive_);
  }
  RemoveHandle<Dog>(handle);
  EXPECT_EQ(alive_, 0);
  const auto stale = FindHandle<Dog>(handle);
  EXPECT_EQ(CodeOf(stale.status()), ErrorCode::kStale);
  EXPECT_EQ(stale.status().message(), "the session was destroyed");
  RemoveHandle<Dog>(handle);
  EXPECT_EQ(alive_, 0);
}

TEST_F(HandleTest, TokensAreNeverReused) {
  std::set<qft_session*> seen;
  for (int i = 0; i < 1000; ++i) {
    qft_session* handle = NewDog();
    EXPECT_TRUE(seen.insert(handle).second);
    RemoveHandle<Dog>(handle);
  }
  EXPECT_EQ(alive_, 0);
}

TEST_F(HandleTest, RefusesNullForeignAndOtherKinds) {
  EXPECT_EQ(FindHandle<Dog>(nullptr).status().message(), "session is NULL");
  EXPECT_EQ(CodeOf(FindHandle<Dog>(nullptr).status()), ErrorCode::kInvalidArgument);

  int local = 0;
  const auto* address = reinterpret_cast<const qft_session*>(&local);
  EXPECT_EQ(CodeOf(FindHandle<Dog>(address).status()), ErrorCode::kStale);

  qft_tokenizer* cat = AddHandle(std::make_shared<Cat>());
  auto* as_dog = reinterpret_cast<qft_session*>(cat);
  const auto wrong = FindHandle<Dog>(as_dog);
  EXPECT_EQ(CodeOf(wrong.status()), ErrorCode::kInvalidArgument);
  EXPECT_EQ(wrong.status().message(), "expected a session, got a tokenizer");
  RemoveHandle<Dog>(as_dog);
  RemoveHandle<Dog>(nullptr);
  EXPECT_TRUE(FindHandle<Cat>(cat).ok());
  RemoveHandle<Cat>(cat);
}

TEST_F(HandleTest, ExclusiveKeepsEveryoneElseOut) {
  qft_session* handle = NewDog();
  {
    const auto held = Exclusive<Dog>::Lock(handle);
    ASSERT_TRUE(held.ok());
    (*held)->barks = 3;
    std::thread([&] {
      EXPECT_EQ(CodeOf(Exclusive<Dog>::Lock(handle).status()), ErrorCode::kBusy);
      EXPECT_EQ(CodeOf(Shared<Dog>::Lock(handle).status()), ErrorCode::kBusy);
      EXPECT_TRUE(FindHandle<Dog>(handle).ok());
    }).join();
    EXPECT_EQ(CodeOf(Exclusive<Dog>::Lock(handle).status()), ErrorCode::kReentrant);
    EXPECT_EQ(CodeOf(Shared<Dog>::Lock(handle).status()), ErrorCode::kReentrant);
  }
  const auto shared = Shared<Dog>::Lock(handle);
  ASSERT_TRUE(shared.ok());
  EXPECT_EQ((*shared)->barks, 3);
  EXPECT_TRUE(Shared<Dog>::Lock(handle).ok());
  EXPECT_EQ(CodeOf(Exclusive<Dog>::Lock(handle).status()), ErrorCode::kBusy);
  RemoveHandle<Dog>(handle);
}

TEST_F(HandleTest, RemovalDuringUseFreesAtItsEnd) {
  qft_session* handle = NewDog();
  {
    const auto held = Exclusive<Dog>::Lock(handle);
    ASSERT_TRUE(held.ok());
    RemoveHandle<Dog>(handle);
    EXPECT_EQ(alive_, 1);
    EXPECT_EQ(CodeOf(FindHandle<Dog>(handle).status()), ErrorCode::kStale);
  }
  EXPECT_EQ(alive_, 0);
}

TEST_F(HandleTest, OneThreadAtATimeUnderContention) {
  qft_session* handle = NewDog();
  std::atomic<int> done{0};
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) {
        const auto held = Exclusive<Dog>::Lock(handle);
        if (!held.ok()) continue;
        ++(*held)->barks;
        ++done;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ((*FindHandle<Dog>(handle))->barks, done.load());
  RemoveHandle<Dog>(handle);
}

// Runs `body` in a forked child and returns its exit code.
int InChild(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(HandleTest, ForkedChildGetsForkedAndOwnHandlesWork) {
  qft_session* inherited = NewDog();
  const int result = InChild([&] {
    if (CodeOf(FindHandle<Dog>(inherited).status()) != ErrorCode::kForked) return 1;
    RemoveHandle<Dog>(inherited);
    if (alive_ != 1) return 2;
    qft_session* own = NewDog();
    if (own == inherited || !FindHandle<Dog>(own).ok()) return 3;
    if (CodeOf(FindHandle<Dog>(inherited).status()) != ErrorCode::kForked) return 4;
    const int grandchild = InChild([&] {
      return CodeOf(FindHandle<Dog>(own).status()) == ErrorCode::kForked &&
                     CodeOf(FindHandle<Dog>(inherited).status()) == ErrorCode::kForked
                 ? 0
                 : 1;
    });
    if (grandchild != 0) return 5;
    RemoveHandle<Dog>(own);
    return alive_ == 1 ? 0 : 6;
  });
  EXPECT_EQ(result, 0);
  EXPECT_TRUE(FindHandle<Dog>(inherited).ok());
  RemoveHandle<Dog>(inherited);
}

// A fork while other threads are inside the registry must not leave the child waiting for a lock
// that no thread of its own holds.
TEST_F(HandleTest, ForkWhileOthersUseTheRegistry) {
  std::atomic<bool> stop{false};
  std::thread other([&] {
    int alive = 0;
    while (!stop) {
      qft_session* handle = AddHandle(std::make_shared<Dog>(&alive));
      RemoveHandle<Dog>(handle);
    }
  });
  for (int i = 0; i < 50; ++i) {
    const int result = InChild([&] {
      alarm(20);
      qft_session* own = NewDog();
      const bool found = FindHandle<Dog>(own).ok();
      RemoveHandle<Dog>(own);
      return found ? 0 : 1;
    });
    ASSERT_EQ(result, 0);
  }
  stop = true;
  other.join();
}

}  // namespace
}  // namespace qft
