/* SPDX-License-Identifier: Apache-2.0
 * slow.h: builds in which every step costs ten times as much; tests take shorter lists there. */
#ifndef TESTS_SLOW_H
#define TESTS_SLOW_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BUILD_IS_SLOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BUILD_IS_SLOW 1
#endif
#endif
#ifndef BUILD_IS_SLOW
#define BUILD_IS_SLOW 0
#endif

#endif
