"""The native half of the pool of workers, for calls that come without Python: `worker_ir` says how the rest works.

Some slots are kept for these calls. A slot's flag says that it is taken; it is set and reset natively, for nobody
there holds the interpreter's lock.
"""

SHARE = """
; Run a kernel on all of its tiles together with helpers, to its end whatever signals come; 0 if no slot is free.
define i64 @share(ptr %board, ptr %kernel, ptr %descriptor, ptr %scratch, i64 %stride, i64 %helpers) {
  %slots = getelementptr i8, ptr %board, i64 $FIRST_SLOT
  br label %look
look:
  %number = phi i64 [0, %0], [%next, %pass]
  %there = icmp ult i64 %number, $KEPT
  br i1 %there, label %try, label %none
try:
  %offset = mul i64 %number, $SLOT_BYTES
  %slot = getelementptr i8, ptr %slots, i64 %offset
  %busy = getelementptr i8, ptr %slot, i64 $SLOT_BUSY
  %before = cmpxchg ptr %busy, i64 0, i64 1 seq_cst seq_cst
  %ours = extractvalue {i64, i1} %before, 1
  br i1 %ours, label %take, label %pass
pass:
  %next = add i64 %number, 1
  br label %look
take:
  %counter = getelementptr i8, ptr %slot, i64 $SLOT_COUNTER
  store atomic i64 0, ptr %counter monotonic, align 8
  %first = call i64 @run(ptr %board, ptr %slot, ptr %kernel, ptr %descriptor, ptr %scratch, i64 %stride,
                         i64 %helpers, i64 1, i64 -1)
  br label %ask
ask:
  %done = phi i64 [%first, %take], [%again, %wait]
  %all = icmp ne i64 %done, 0
  br i1 %all, label %give_back, label %wait
wait:
  %again = call i64 @wait(ptr %board, ptr %slot, i64 -1)
  br label %ask
give_back:
  store atomic i64 0, ptr %busy seq_cst, align 8
  ret i64 1
none:
  ret i64 0
}
"""
