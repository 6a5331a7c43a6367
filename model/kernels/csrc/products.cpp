// What lies between two attentions, for one instruction set: compiled once for each, with OSA_ISA
// naming it.
#include "backend.h"
#include "tile_panels.h"
#include "transform.h"

#define OSA_JOIN(left, right) left##right
#define OSA_NAME(left, right) OSA_JOIN(left, right)
#define OSA_TEXT(name) OSA_STRING(name)
#define OSA_STRING(name) #name

namespace {

template <class Engine>
constexpr OsaTransform transform_on() {
  return {Engine::ROWS, Engine::MOST_ROWS, transform_rows<Engine>, transform_bytes<Engine>};
}

#if defined(OSA_TILES)
typedef TilePanels<TileBfloat16> Bfloat16Engine;
typedef TilePanels<TileInt8> Int8Engine;
#else
typedef Panels<Bfloat16> Bfloat16Engine;
typedef Panels<Int8> Int8Engine;
#endif

}  // namespace

extern const OsaProducts OSA_NAME(osa_products_, OSA_ISA);
const OsaProducts OSA_NAME(osa_products_, OSA_ISA) = {
    OSA_TEXT(OSA_ISA), {transform_on<Panels<Float32>>(), transform_on<Bfloat16Engine>(), transform_on<Int8Engine>()}};
