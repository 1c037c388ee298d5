# SPDX-License-Identifier: Apache-2.0
# cmake -DROOT=... -DFILES=a,b -DOUTPUT=out.c -P embed.cmake: text files as C arrays, byte for byte (sources.h).
string(REPLACE "," ";" files "${FILES}")
set(arrays "")
set(table "")
set(n 0)
foreach(file ${files})
  file(READ ${ROOT}/${file} hex HEX)
  string(LENGTH "${hex}" digits)
  math(EXPR bytes "${digits} / 2")
  string(REGEX REPLACE "(................................)" "\\1\n    " hex "${hex}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
  string(APPEND arrays "static const unsigned char text_${n}[] = {\n    ${hex} 0 };\n")
  string(APPEND table "    { \"${file}\", (const char *)text_${n}, ${bytes} },\n")
  math(EXPR n "${n} + 1")
endforeach()
file(WRITE ${OUTPUT} "/* made by cmake/embed.cmake */\n#include \"kernel/cuda/sources.h\"\n\n${arrays}
const struct cuda_source folio__cuda_sources[] = {\n${table}};\nconst i32 folio__cuda_n_sources = ${n};\n")
