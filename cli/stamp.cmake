# SPDX-License-Identifier: Apache-2.0
# stamp.cmake: writes stamp.c: which commit, build type and compiler this is.
set(commit "")
find_program(GIT git)
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT commit)
  set(commit "unknown")
endif()
set(text "/* written by stamp.cmake */
#include \"version.h\"

const char *build_commit(void)
{
    return \"${commit}\";
}

const char *build_type(void)
{
    return \"${BUILD_TYPE}\";
}

const char *build_compiler(void)
{
    return \"${COMPILER}\";
}
")
set(old "")
if(EXISTS ${OUT})
  file(READ ${OUT} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${OUT} "${text}")
endif()
