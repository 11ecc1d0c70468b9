/*
 * The one function of Windows' bcryptprimitives.dll that Rust's programs call and Wine 8 lacks, by the one that it has.
 * For tests under Wine alone: never shipped, and no part of the broker.
 */
#include <windows.h>

/* Its documented name is RtlGenRandom. */
BOOLEAN WINAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length) {
    while (length > 0) {
        ULONG part = length < 0x10000 ? (ULONG)length : 0x10000;
        if (!SystemFunction036(buffer, part)) {
            return FALSE;
        }
        buffer += part;
        length -= part;
    }
    return TRUE;
}
