"""The native half of the pool of workers: how threads find work, join, leave and sleep without Python.

Written in LLVM IR, because a worker that had to take the interpreter's lock before each job would come
100 µs late. All that the threads share is one block of memory, the board:

- a header: how often work was posted, how many workers' records are in use, and functions of Python and the system;
- slots, one for each call in progress: its gate, what to run, and the counter that tiles are taken from;
- workers, one record each: whether it is asleep, and the lock that it sleeps on.

A slot's gate is one number: how many workers are inside, plus `OPEN` while more may come in. A worker
enters by adding one; if the gate was not open, or no ticket is left, it leaves again. A caller closes the
gate and waits for zero; only then it may use the slot for another call. So a worker that looks at a slot
too late does no harm, and nothing is ever freed under it.

Whoever sleeps sets its flag, looks once more, and only then takes its lock; whoever wakes it resets the
flag first, and releases the lock once for each flag that it has reset. Both sides are sequentially
consistent, so no wake-up is lost.

Linux likes to wake a thread on the processor of whoever wakes it, above all in virtual machines, where a
halted processor does not count as idle. There the worker would wait until the caller is done. So a caller
bars its own processor to a worker that it wakes, and the worker, once it runs, may run anywhere again.
"""

TEXT = """
define internal i64 @wake(ptr %board, ptr %asleep, ptr %lock_at, ptr %id_at, ptr %places) {
  %looks_asleep = load atomic i64, ptr %asleep seq_cst, align 8
  %maybe = icmp ne i64 %looks_asleep, 0
  br i1 %maybe, label %try, label %no
try:
  %before = cmpxchg ptr %asleep, i64 1, i64 0 seq_cst seq_cst
  %ours = extractvalue {i64, i1} %before, 1
  br i1 %ours, label %place, label %no
place:
  %free = icmp eq ptr %places, null
  br i1 %free, label %release, label %confine
confine:
  %id = load i64, ptr %id_at
  call void @confine(ptr %board, i64 %id, ptr %places)
  br label %release
release:
  %function_at = getelementptr i8, ptr %board, i64 $LOCK_RELEASE
  %function = load ptr, ptr %function_at
  %lock = load ptr, ptr %lock_at
  call void %function(ptr %lock)
  ret i64 1
no:
  ret i64 0
}

; Let a thread, 0 for this one, run on these processors only.
define internal void @confine(ptr %board, i64 %id, ptr %places) {
  %function_at = getelementptr i8, ptr %board, i64 $PLACES_SET
  %bytes_at = getelementptr i8, ptr %board, i64 $PLACES_BYTES
  %function = load ptr, ptr %function_at
  %bytes = load i64, ptr %bytes_at
  %thread = trunc i64 %id to i32
  %status = call i32 %function(i32 %thread, i64 %bytes, ptr %places)
  ret void
}

; All allowed processors but the one that this thread runs on; null if nothing is known of them.
define internal ptr @places_elsewhere(ptr %board) {
  %function_at = getelementptr i8, ptr %board, i64 $PLACES_HERE
  %function = load ptr, ptr %function_at
  %unknown = icmp eq ptr %function, null
  br i1 %unknown, label %no, label %ask
ask:
  %place = call i32 %function()
  %count_at = getelementptr i8, ptr %board, i64 $PLACES_COUNT
  %count = load i64, ptr %count_at
  %number = sext i32 %place to i64
  %known = icmp ult i64 %number, %count
  br i1 %known, label %find, label %no
find:
  %bytes_at = getelementptr i8, ptr %board, i64 $PLACES_BYTES
  %table_at = getelementptr i8, ptr %board, i64 $PLACES_TABLE
  %bytes = load i64, ptr %bytes_at
  %table = load ptr, ptr %table_at
  %row = add i64 %number, 1
  %offset = mul i64 %row, %bytes
  %places = getelementptr i8, ptr %table, i64 %offset
  ret ptr %places
no:
  ret ptr null
}

define internal i32 @acquire(ptr %board, ptr %lock_at, i64 %microseconds, i32 %interruptible) {
  %function_at = getelementptr i8, ptr %board, i64 $LOCK_ACQUIRE
  %function = load ptr, ptr %function_at
  %lock = load ptr, ptr %lock_at
  %status = call i32 %function(ptr %lock, i64 %microseconds, i32 %interruptible)
  ret i32 %status
}

; What a worker does, for ever.
define void @serve(ptr %board, ptr %worker) {
  %slots = getelementptr i8, ptr %board, i64 $FIRST_SLOT
  %worker_lock = getelementptr i8, ptr %worker, i64 $WORKER_LOCK
  br label %look
look:
  %seen = load atomic i64, ptr %board seq_cst, align 8
  br label %visit
visit:
  %index = phi i64 [0, %look], [%next_index, %pass]
  %offset = mul i64 %index, $SLOT_BYTES
  %slot = getelementptr i8, ptr %slots, i64 %offset
  %tickets = getelementptr i8, ptr %slot, i64 $SLOT_TICKETS
  %gate = load atomic i64, ptr %slot acquire, align 8
  %open = icmp uge i64 %gate, $OPEN
  br i1 %open, label %ask, label %pass
ask:
  %left = load atomic i64, ptr %tickets monotonic, align 8
  %some = icmp sgt i64 %left, 0
  br i1 %some, label %enter, label %pass
enter:
  %gate_before = atomicrmw add ptr %slot, i64 1 seq_cst
  %still_open = icmp uge i64 %gate_before, $OPEN
  br i1 %still_open, label %take, label %leave
take:
  %ticket = atomicrmw sub ptr %tickets, i64 1 monotonic
  %valid = icmp sgt i64 %ticket, 0
  br i1 %valid, label %compute, label %leave
compute:
  %kernel_at = getelementptr i8, ptr %slot, i64 $SLOT_KERNEL
  %descriptor_at = getelementptr i8, ptr %slot, i64 $SLOT_DESCRIPTOR
  %scratch_at = getelementptr i8, ptr %slot, i64 $SLOT_SCRATCH
  %stride_at = getelementptr i8, ptr %slot, i64 $SLOT_STRIDE
  %counter = getelementptr i8, ptr %slot, i64 $SLOT_COUNTER
  %kernel = load ptr, ptr %kernel_at
  %descriptor = load ptr, ptr %descriptor_at
  %all_scratch = load ptr, ptr %scratch_at
  %stride = load i64, ptr %stride_at
  %scratch_offset = mul i64 %ticket, %stride
  %scratch = getelementptr i8, ptr %all_scratch, i64 %scratch_offset
  call void %kernel(ptr %descriptor, ptr %counter, ptr %scratch)
  ; no tile is left: nobody else need come in
  %before_closing = atomicrmw and ptr %slot, i64 $NOT_OPEN seq_cst
  br label %leave
leave:
  %gate_leaving = atomicrmw sub ptr %slot, i64 1 seq_cst
  %last = icmp eq i64 %gate_leaving, 1
  br i1 %last, label %tell, label %look
tell:
  %asleep = getelementptr i8, ptr %slot, i64 $SLOT_ASLEEP
  %lock_at = getelementptr i8, ptr %slot, i64 $SLOT_LOCK
  %told = call i64 @wake(ptr %board, ptr %asleep, ptr %lock_at, ptr null, ptr null)
  br label %look
pass:
  %next_index = add i64 %index, 1
  %more = icmp ult i64 %next_index, $SLOTS
  br i1 %more, label %visit, label %linger
linger:
  %looks = phi i64 [0, %pass], [%next_looks, %longer]
  %posted = load atomic i64, ptr %board monotonic, align 8
  %new = icmp ne i64 %posted, %seen
  br i1 %new, label %look, label %longer
longer:
  $PAUSE
  %next_looks = add i64 %looks, 1
  %patient = icmp ult i64 %next_looks, $LOOKS
  br i1 %patient, label %linger, label %sleep
sleep:
  store atomic i64 1, ptr %worker seq_cst, align 8
  %posted_now = load atomic i64, ptr %board seq_cst, align 8
  %new_now = icmp ne i64 %posted_now, %seen
  br i1 %new_now, label %withdraw, label %block
withdraw:
  %before = cmpxchg ptr %worker, i64 1, i64 0 seq_cst seq_cst
  %withdrawn = extractvalue {i64, i1} %before, 1
  br i1 %withdrawn, label %look, label %block
block:
  %status = call i32 @acquire(ptr %board, ptr %worker_lock, i64 -1, i32 0)
  ; whoever woke us may have confined us
  %table_at = getelementptr i8, ptr %board, i64 $PLACES_TABLE
  %everywhere = load ptr, ptr %table_at
  %unknown = icmp eq ptr %everywhere, null
  br i1 %unknown, label %look, label %spread
spread:
  call void @confine(ptr %board, i64 0, ptr %everywhere)
  br label %look
}

; Post a call and wake helpers; take part in it, if asked, and then wait as below.
define i64 @run(ptr %board, ptr %slot, ptr %kernel, ptr %descriptor, ptr %scratch, i64 %stride,
                i64 %helpers, i64 %takes_part, i64 %microseconds) {
  %counter = getelementptr i8, ptr %slot, i64 $SLOT_COUNTER
  %helped = icmp sgt i64 %helpers, 0
  br i1 %helped, label %post, label %begin
post:
  %tickets = getelementptr i8, ptr %slot, i64 $SLOT_TICKETS
  %kernel_at = getelementptr i8, ptr %slot, i64 $SLOT_KERNEL
  %descriptor_at = getelementptr i8, ptr %slot, i64 $SLOT_DESCRIPTOR
  %scratch_at = getelementptr i8, ptr %slot, i64 $SLOT_SCRATCH
  %stride_at = getelementptr i8, ptr %slot, i64 $SLOT_STRIDE
  store ptr %kernel, ptr %kernel_at
  store ptr %descriptor, ptr %descriptor_at
  store ptr %scratch, ptr %scratch_at
  store i64 %stride, ptr %stride_at
  store atomic i64 %helpers, ptr %tickets monotonic, align 8
  %gate_before = atomicrmw add ptr %slot, i64 $OPEN seq_cst
  %posted_before = atomicrmw add ptr %board, i64 1 seq_cst
  %used_at = getelementptr i8, ptr %board, i64 $RECORDS_USED
  %used = load atomic i64, ptr %used_at acquire, align 8
  %workers = getelementptr i8, ptr %board, i64 $FIRST_WORKER
  %places = call ptr @places_elsewhere(ptr %board)
  br label %check
check:
  %index = phi i64 [0, %post], [%next_index, %visit]
  %wanted = phi i64 [%helpers, %post], [%still_wanted, %visit]
  %there = icmp ult i64 %index, %used
  %any_wanted = icmp sgt i64 %wanted, 0
  %on = and i1 %there, %any_wanted
  br i1 %on, label %visit, label %begin
visit:
  %offset = mul i64 %index, $WORKER_BYTES
  %worker = getelementptr i8, ptr %workers, i64 %offset
  %worker_lock = getelementptr i8, ptr %worker, i64 $WORKER_LOCK
  %worker_id = getelementptr i8, ptr %worker, i64 $WORKER_ID
  %woken = call i64 @wake(ptr %board, ptr %worker, ptr %worker_lock, ptr %worker_id, ptr %places)
  %still_wanted = sub i64 %wanted, %woken
  %next_index = add i64 %index, 1
  br label %check
begin:
  %computes = icmp ne i64 %takes_part, 0
  br i1 %computes, label %compute, label %end
compute:
  call void %kernel(ptr %descriptor, ptr %counter, ptr %scratch)
  call void @close(ptr %slot)
  br label %end
end:
  %result = call i64 @wait(ptr %board, ptr %slot, i64 %microseconds)
  ret i64 %result
}

; 1 when the slot is closed and nobody is in it, 0 after a while, on a signal, or for no reason.
define i64 @wait(ptr %board, ptr %slot, i64 %microseconds) {
  %asleep = getelementptr i8, ptr %slot, i64 $SLOT_ASLEEP
  %lock_at = getelementptr i8, ptr %slot, i64 $SLOT_LOCK
  br label %linger
linger:
  %looks = phi i64 [0, %0], [%next_looks, %longer]
  %gate = load atomic i64, ptr %slot acquire, align 8
  %empty = icmp eq i64 %gate, 0
  br i1 %empty, label %done, label %longer
longer:
  $PAUSE
  %next_looks = add i64 %looks, 1
  %patient = icmp ult i64 %next_looks, $CALLERS_LOOKS
  br i1 %patient, label %linger, label %sleep
sleep:
  store atomic i64 1, ptr %asleep seq_cst, align 8
  %gate_now = load atomic i64, ptr %slot seq_cst, align 8
  %empty_now = icmp eq i64 %gate_now, 0
  br i1 %empty_now, label %withdraw, label %block
block:
  %status = call i32 @acquire(ptr %board, ptr %lock_at, i64 %microseconds, i32 1)
  %acquired = icmp eq i32 %status, 1
  br i1 %acquired, label %answer, label %withdraw
withdraw:
  %before = cmpxchg ptr %asleep, i64 1, i64 0 seq_cst seq_cst
  %withdrawn = extractvalue {i64, i1} %before, 1
  br i1 %withdrawn, label %answer, label %consume
consume:
  %consumed = call i32 @acquire(ptr %board, ptr %lock_at, i64 -1, i32 0)
  br label %answer
answer:
  %gate_last = load atomic i64, ptr %slot acquire, align 8
  %empty_last = icmp eq i64 %gate_last, 0
  %result = zext i1 %empty_last to i64
  ret i64 %result
done:
  ret i64 1
}

; Let nobody else come in.
define void @close(ptr %slot) {
  %before = atomicrmw and ptr %slot, i64 $NOT_OPEN seq_cst
  ret void
}

; Set a counter while threads add to it, and return what it was.
define i64 @exchange(ptr %counter, i64 %value) {
  %before = atomicrmw xchg ptr %counter, i64 %value seq_cst
  ret i64 %before
}
"""
