// Which recurrence a call asks for; see osa_recurrence.h.
#ifndef OSA_RECURRENCE_KINDS_H
#define OSA_RECURRENCE_KINDS_H

#include "chela.h"
#include "pdssm.h"
#include "prism.h"

namespace {

template <class In>
void follow(const OsaRecurrenceTask& task, void* memory) {
  if (task.call->kind == OSA_CHELA) {
    const ChelaHead<In> one(task, memory);
    one.forwards(), one.backwards(), one.sum_products(), one.apply();
  } else if (task.call->kind == OSA_PRISM) {
    const PrismHead<In> one(task, memory);
    one.pass(false), one.pass(true);
  } else {
    const PdssmHead<In> one(task, memory);
    one.pass(false), one.pass(true);
  }
}

inline void follow_tokens(const OsaRecurrenceTask* task, void* memory) {
  if (task->call->dtype == OSA_BFLOAT16) follow<bfloat16>(*task, memory);
  else follow<float>(*task, memory);
}

inline size_t recurrence_bytes(const OsaRecurrenceCall* call, int64_t count) {
  const int64_t width = call->head_dim;
  return larger(larger(PrismHead<float>::bytes(count, width), PdssmHead<float>::bytes(count, width)),
                ChelaHead<float>::bytes(count, width));
}

}  // namespace
#endif
