# SPDX-License-Identifier: Apache-2.0
"""Other systems' own calls over folio, one module each: change the import and keep the program."""
