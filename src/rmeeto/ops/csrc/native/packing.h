// The entry points of ../library.cpp that this library is built on.
#pragma once

#include "interface.h"
#include "kernels.h"

extern "C" {
const char* rmeeto_instruction_set();
rmeeto::FrozenBlock* rmeeto_block_pack(const BlockWeights* weights);
int64_t rmeeto_block_workspace(const rmeeto::FrozenBlock* block, BlockTokens* tokens, int64_t cache, int threads);
void rmeeto_block_release(rmeeto::FrozenBlock* block);
rmeeto::FrozenLinear* rmeeto_linear_pack(const void* weight, int64_t storage, int64_t columns, int64_t depth);
void rmeeto_linear_release(rmeeto::FrozenLinear* linear);
int rmeeto_network(const Network* network, int threads);
}
