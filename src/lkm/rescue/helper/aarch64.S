// SPDX-License-Identifier: GPL-2.0-or-later
//
// The helper, arm64: a fixed interpreter for a table of conditional edits and calls (lkm.rescue.table has its layout
// and its answers).
//
// Every function is called through the table, by a return to its address: what is not exported can be called,
// out of a branch's range too, and a function without a landing pad (a return needs none, a branch by register
// would: BTI). x18 is left alone (shadow call stack).
//
// A lock without such functions is a queued spinlock, and taken here (include/asm-generic/qspinlock.h, 4.19 to 7.x):
// the word 0 becomes 1, and its low byte 0 again; in the others may stand by then who waits. Interrupts are masked
// between, so that nothing else runs on this CPU. do_one_initcall warns, should they stay so.

        .arch   armv8-a
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

// x19 table, x20 entry, w21 number of entries, w22 index, w23 answer, x24 interrupts before; [sp + 64] a value read
init_module:
        hint    #34                     // bti c
        stp     x29, x30, [sp, #-80]!
        mov     x29, sp
        stp     x19, x20, [sp, #16]
        stp     x21, x22, [sp, #32]
        stp     x23, x24, [sp, #48]
        ldr     x19, table_at
        ldr     w21, [x19, #COUNT]

        mov     w23, #1024
        ldr     x0, [x19, #LOCK]
        cbz     x0, check
        ldr     x16, [x19, #TRYLOCK]
        cbz     x16, take
        bl      go
        cbz     w0, leave
        b       check
take:   mrs     x24, daif
        msr     daifset, #3
        mov     w1, #1
try:    ldaxr   w2, [x0]
        cbnz    w2, taken
        stxr    w3, w1, [x0]
        cbnz    w3, try

check:  add     x20, x19, #ENTRIES
        mov     w22, wzr
check_next:
        cmp     w22, w21
        b.hs    make
        ldr     w3, [x20, #28]
        cmp     w3, #KIND_CALL
        b.hs    checked
        bl      read
        add     w23, w22, #1536
        cbnz    x0, unlock
        add     w23, w22, #1280
        ldr     x0, [sp, #64]
        ldr     x1, [x20, #8]
        cmp     x0, x1
        b.ne    unlock
checked:
        add     w22, w22, #1
        add     x20, x20, #ENTRY_SIZE
        b       check_next

make:   add     x20, x19, #ENTRIES
        mov     w22, wzr
make_next:
        mov     w23, #2400
        cmp     w22, w21
        b.hs    unlock
        ldr     w3, [x20, #28]
        cmp     w3, #KIND_CALL
        b.hs    invoke
        ldr     x4, [x20, #8]
        add     x1, x20, #16
        bl      replace
        cbnz    x0, failed
made:   add     w22, w22, #1
        add     x20, x20, #ENTRY_SIZE
        b       make_next

// A call may give a lock back: what was written before is seen before.
invoke: dmb     ish
        ldr     x9, [x20, #8]
        add     x9, x19, x9
        ldp     x0, x1, [x9]
        ldp     x2, x3, [x9, #16]
        ldp     x4, x5, [x9, #32]
        ldr     x16, [x20]
        bl      go
        ldr     w3, [x20, #28]
        cmp     w3, #KIND_CALL_ZERO
        b.ne    made
        cbz     w0, made
        add     w23, w22, #2560
        b       undo

failed: add     w23, w22, #1792
        ldr     w3, [x20, #28]
        cmp     w3, #KIND_CMPXCHG
        b.ne    undo
        add     w23, w22, #2048
undo:   cbz     w22, unlock
        sub     w22, w22, #1
        sub     x20, x20, #ENTRY_SIZE
        ldr     w3, [x20, #28]
        cmp     w3, #KIND_CALL
        b.hs    undo
        ldr     x4, [x20, #16]
        add     x1, x20, #8
        bl      replace
        cbz     x0, undo
        add     w23, w22, #2816
        b       undo

unlock: ldr     x0, [x19, #LOCK]
        cbz     x0, leave
        ldr     x16, [x19, #UNLOCK]
        cbz     x16, give
        bl      go
        b       leave
taken:  clrex
        b       unmask
give:   stlrb   wzr, [x0]
unmask: msr     daif, x24
leave:  neg     w0, w23
        ldp     x23, x24, [sp, #48]
        ldp     x21, x22, [sp, #32]
        ldp     x19, x20, [sp, #16]
        ldp     x29, x30, [sp], #80
        ret

// Goes to the function at x16, which returns to our caller.
go:     ret     x16

// Reads the entry's address into the caller's [sp + 64]; x0 0 or an error.
read:   add     x0, sp, #64
        str     xzr, [x0]
        ldr     x1, [x20]
        ldr     w2, [x20, #24]
        ldr     x16, [x19, #READ]
        ret     x16

// Puts the value at x1 in the place of x4, by the entry's kind; x0 0 if it did.
replace:
        ldr     x0, [x20]
        ldr     w2, [x20, #24]
        ldr     w3, [x20, #28]
        cmp     w3, #KIND_STORE
        b.lo    nothing
        b.eq    store
        ldr     w5, [x1]
again:  ldaxr   w6, [x0]
        cmp     w6, w4
        b.ne    other
        stlxr   w7, w5, [x0]
        cbnz    w7, again
        dmb     ish
nothing:
        mov     x0, xzr
        ret
other:  clrex
        mov     x0, #1
        ret
store:  ldr     x16, [x19, #WRITE]
        ret     x16

        .p2align 3
table_at:
        .quad   table

        .data
        .p2align 3
table:
