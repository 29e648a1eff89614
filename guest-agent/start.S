    .globl _start
    .text
_start:
    xorl %ebp, %ebp
    movq %rsp, %rdi
    andq $-16, %rsp
    call agent_main
    hlt
    .section .note.GNU-stack,"",@progbits
