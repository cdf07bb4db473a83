// How the address space of a store lies in its files: block b is block b / files of file b % files.
#pragma once

#include <algorithm>
#include <cstdint>

namespace qft {

// What one request moves: a range within one block.
struct Piece {
  int64_t offset = 0;       // in the store
  int64_t file_offset = 0;  // in the file of the block
  int64_t bytes = 0;
};

struct Striping {
  int64_t block_bytes = 0;
  int files = 0;

  // Of every file, for a store of `bytes`.
  int64_t FileBytes(int64_t bytes) const {
    const int64_t stripe = block_bytes * files;
    return (bytes + stripe - 1) / stripe * block_bytes;
  }

  // Blocks that [offset, offset + bytes) touches are [FirstBlock(offset), EndBlock(offset +
  // bytes)).
  int64_t FirstBlock(int64_t offset) const { return offset / block_bytes; }
  int64_t EndBlock(int64_t end) const { return (end + block_bytes - 1) / block_bytes; }
  // The first block from `block` on that lies in `file`.
  int64_t NextBlockOf(int file, int64_t block) const {
    return block + (file - block % files + files) % files;
  }

  // The part of [offset, offset + bytes) that lies in `block`.
  Piece PieceOf(int64_t block, int64_t offset, int64_t bytes) const {
    const int64_t begin = std::max(offset, block * block_bytes);
    const int64_t end = std::min(offset + bytes, (block + 1) * block_bytes);
    return {begin, block / files * block_bytes + begin - block * block_bytes, end - begin};
  }
};

}  // namespace qft
