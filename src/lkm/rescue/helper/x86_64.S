# SPDX-License-Identifier: GPL-2.0-or-later
#
# The helper, x86_64: a fixed interpreter for a table of conditional edits.
#
# It is the init function of a module that never stays: it always returns a negative errno. It takes
# module_mutex by trylock, checks every expectation, and only when all hold does it write; a write that
# cannot be made undoes those before it. Every access goes through copy_{from,to}_kernel_nofault, so that
# a bad address is an answer and not an oops under the mutex; a cmpxchg follows a read that succeeded.
#
# The table (section .data, made by lkm.rescue.assemble):
#
#     0   u64  address of module_mutex, 0 for none
#     8   u32  number of entries (at most 255)
#    12   u32  unused
#    16   entries of 32 bytes:
#         0   u64  address
#         8   u64  expected value, zero-extended
#        16   u64  new value
#        24   u32  width in bytes (4 or 8)
#        28   u32  kind: 0 check only, 1 store, 2 cmpxchg (width 4)
#
# The answer, as -errno (lkm.rescue.assemble.HelperAnswer); i is the entry it is about:
#
#     2400      all written
#     1024      module_mutex is held: nothing done
#     1280 + i  another value than expected: nothing written
#     1536 + i  the address cannot be read: nothing written
#     1792 + i  the address cannot be written: those before it were undone
#     2048 + i  cmpxchg met another value: those before it were undone
#
# The functions called are undefined here; assemble.py gives each its address in the running kernel, as an
# absolute symbol, so the calls are direct: nothing has to be exported, and no landing pad is needed.

        .intel_syntax noprefix
        .text
        .globl  init_module

        .set    ENTRY_SIZE, 32
        .set    ENTRIES, 16

# rbx entry, r12 number of entries, r13 index, r14 answer, r15 table; [rsp] a value read
init_module:
        endbr64
        push    rbp
        mov     rbp, rsp
        push    rbx
        push    r12
        push    r13
        push    r14
        push    r15
        sub     rsp, 8
        lea     r15, [rip + table]
        mov     r12d, [r15 + 8]

        mov     r14d, 1024
        mov     rdi, [r15]
        test    rdi, rdi
        jz      check
        call    mutex_trylock
        test    eax, eax
        jz      leave

check:  lea     rbx, [r15 + ENTRIES]
        xor     r13d, r13d
check_next:
        cmp     r13, r12
        jae     write
        call    read
        lea     r14d, [r13 + 1536]
        test    rax, rax
        jnz     unlock
        lea     r14d, [r13 + 1280]
        mov     rax, [rsp]
        cmp     rax, [rbx + 8]
        jne     unlock
        inc     r13
        add     rbx, ENTRY_SIZE
        jmp     check_next

write:  lea     rbx, [r15 + ENTRIES]
        xor     r13d, r13d
write_next:
        mov     r14d, 2400
        cmp     r13, r12
        jae     unlock
        mov     rax, [rbx + 8]
        lea     rsi, [rbx + 16]
        call    replace
        test    rax, rax
        jnz     failed
        inc     r13
        add     rbx, ENTRY_SIZE
        jmp     write_next

failed: lea     r14d, [r13 + 1792]
        cmp     dword ptr [rbx + 28], 2
        jne     undo
        lea     r14d, [r13 + 2048]
undo:   test    r13, r13
        jz      unlock
        dec     r13
        sub     rbx, ENTRY_SIZE
        mov     rax, [rbx + 16]
        lea     rsi, [rbx + 8]
        call    replace
        jmp     undo

unlock: mov     rdi, [r15]
        test    rdi, rdi
        jz      leave
        call    mutex_unlock
leave:  movsxd  rax, r14d
        neg     rax
        add     rsp, 8
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbx
        pop     rbp
        ret

# Reads the entry's address into the caller's [rsp]; rax 0 or an error.
read:   lea     rdi, [rsp + 8]
        mov     qword ptr [rdi], 0
        mov     rsi, [rbx]
        mov     edx, [rbx + 24]
        call    copy_from_kernel_nofault
        ret

# Puts the value at rsi in the place of rax, by the entry's kind; rax 0 if it did.
replace:
        mov     rdi, [rbx]
        mov     edx, [rbx + 24]
        mov     ecx, [rbx + 28]
        cmp     ecx, 1
        jb      nothing
        je      store
        mov     ecx, [rsi]
        lock cmpxchg dword ptr [rdi], ecx
        setne   al
        movzx   eax, al
        ret
store:  call    copy_to_kernel_nofault
        ret
nothing:
        xor     eax, eax
        ret

        .data
        .p2align 3
table:
