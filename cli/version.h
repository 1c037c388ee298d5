/* SPDX-License-Identifier: Apache-2.0
 * version.h: which build this is, for reports that must be traceable. */
#ifndef CLI_VERSION_H
#define CLI_VERSION_H

const char *build_commit(void); /* "14779e1ab3c2", "-dirty" behind it when files were changed; "unknown" without git */
const char *build_type(void);   /* "Release" */
const char *build_compiler(void); /* "GNU-12.2.0" */

#endif
