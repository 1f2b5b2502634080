# SPDX-License-Identifier: GPL-2.0-or-later
#
# The helper, x86_64: a fixed interpreter for a table of conditional edits and calls (lkm.rescue.table has its layout
# and its answers).
#
# Every function is called through the table, by an address pushed for a return: what is not exported can be
# called, and a function without a landing pad too (a return needs none, an indirect call would: IBT).

        .intel_syntax noprefix
        .text
        .globl  init_module

        .set    TRYLOCK, 0
        .set    LOCK, 8
        .set    UNLOCK, 16
        .set    READ, 24
        .set    WRITE, 32
        .set    COUNT, 40
        .set    ENTRIES, 48
        .set    ENTRY_SIZE, 32

        .set    KIND_STORE, 1
        .set    KIND_CMPXCHG, 2
        .set    KIND_CALL, 3
        .set    KIND_CALL_ZERO, 4

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
        mov     r12d, [r15 + COUNT]

        mov     r14d, 1024
        mov     rax, [r15 + TRYLOCK]
        test    rax, rax
        jz      check
        mov     rdi, [r15 + LOCK]
        call    go
        test    eax, eax
        jz      leave

check:  lea     rbx, [r15 + ENTRIES]
        xor     r13d, r13d
check_next:
        cmp     r13, r12
        jae     make
        cmp     dword ptr [rbx + 28], KIND_CALL
        jae     checked
        call    read
        lea     r14d, [r13 + 1536]
        test    rax, rax
        jnz     unlock
        lea     r14d, [r13 + 1280]
        mov     rax, [rsp]
        cmp     rax, [rbx + 8]
        jne     unlock
checked:
        inc     r13
        add     rbx, ENTRY_SIZE
        jmp     check_next

make:   lea     rbx, [r15 + ENTRIES]
        xor     r13d, r13d
make_next:
        mov     r14d, 2400
        cmp     r13, r12
        jae     unlock
        cmp     dword ptr [rbx + 28], KIND_CALL
        jae     invoke
        mov     rax, [rbx + 8]
        lea     rsi, [rbx + 16]
        call    replace
        test    rax, rax
        jnz     failed
made:   inc     r13
        add     rbx, ENTRY_SIZE
        jmp     make_next

invoke: mov     r10, [rbx + 8]
        add     r10, r15
        mov     rdi, [r10]
        mov     rsi, [r10 + 8]
        mov     rdx, [r10 + 16]
        mov     rcx, [r10 + 24]
        mov     r8, [r10 + 32]
        mov     r9, [r10 + 40]
        mov     rax, [rbx]
        call    go
        cmp     dword ptr [rbx + 28], KIND_CALL_ZERO
        jne     made
        test    eax, eax
        jz      made
        lea     r14d, [r13 + 2560]
        jmp     undo

failed: lea     r14d, [r13 + 1792]
        cmp     dword ptr [rbx + 28], KIND_CMPXCHG
        jne     undo
        lea     r14d, [r13 + 2048]
undo:   test    r13, r13
        jz      unlock
        dec     r13
        sub     rbx, ENTRY_SIZE
        cmp     dword ptr [rbx + 28], KIND_CALL
        jae     undo
        mov     rax, [rbx + 16]
        lea     rsi, [rbx + 8]
        call    replace
        test    rax, rax
        jz      undo
        lea     r14d, [r13 + 2816]
        jmp     undo

unlock: cmp     qword ptr [r15 + TRYLOCK], 0
        jz      leave
        mov     rdi, [r15 + LOCK]
        mov     rax, [r15 + UNLOCK]
        call    go
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

# Goes to the function at rax, which returns to our caller.
go:     push    rax
        ret

# Reads the entry's address into the caller's [rsp]; rax 0 or an error.
read:   lea     rdi, [rsp + 8]
        mov     qword ptr [rdi], 0
        mov     rsi, [rbx]
        mov     edx, [rbx + 24]
        mov     rax, [r15 + READ]
        jmp     go

# Puts the value at rsi in the place of rax, by the entry's kind; rax 0 if it did.
replace:
        mov     rdi, [rbx]
        mov     edx, [rbx + 24]
        mov     ecx, [rbx + 28]
        cmp     ecx, KIND_STORE
        jb      nothing
        je      store
        mov     ecx, [rsi]
        lock cmpxchg dword ptr [rdi], ecx
        setne   al
        movzx   eax, al
        ret
store:  mov     rax, [r15 + WRITE]
        jmp     go
nothing:
        xor     eax, eax
        ret

        .data
        .p2align 3
table:
