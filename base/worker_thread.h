// Threads that belong to the library.
#pragma once

#include <functional>
#include <thread>

namespace qft {

// Runs `body` in a thread that takes no signals: they belong to the caller's threads, and a handler
// must never run on a worker. Throws std::system_error where there can be no more threads.
std::thread StartWorker(std::function<void()> body);

// From now on the calling thread gives way to the process's others where processors are short.
void GiveWay();

}  // namespace qft
