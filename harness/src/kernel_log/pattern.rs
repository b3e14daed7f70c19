//! What counts as a splat: a table of how the kernel's complaints begin.

/// How the lines of a splat are told from others, and whom they accuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A report of the thread that ran into it.
    Report,
    /// Goes on with, or names, a report that has begun; begins one where none has.
    Part,
    /// CPUs that are stuck: other CPUs add to it.
    Stall,
    /// The kernel ran out of memory: whom it killed matters, not who asked for memory.
    OutOfMemory,
}

/// Where a pattern stands in a line.
#[derive(Debug, Clone, Copy)]
enum At {
    Start,
    /// After a prefix (`watchdog: `, `kvm [1]: `) or a name. These are too long to stand in a process's name, of which
    /// the kernel logs 15 bytes.
    Anywhere,
}

use At::{Anywhere, Start};
use Kind::{OutOfMemory, Part, Report, Stall};

/// A name for people, and the pattern. The first that fits counts.
///
/// What a program of user space does wrong is none of them (`traps: x[1] general protection fault ip:…`, `x[1]: segfault
/// at …`): these begin otherwise.
const SPLATS: &[(&str, At, &str, Kind)] = &[
    // Sanitizers: lib/Kconfig.{kasan,kcsan,kmsan,kfence,ubsan}.
    ("KASAN", Start, "BUG: KASAN: ", Report),
    ("KCSAN", Start, "BUG: KCSAN: ", Report),
    ("KMSAN", Start, "BUG: KMSAN: ", Report),
    ("KFENCE", Start, "BUG: KFENCE: ", Report),
    ("KASAN", Start, "KASAN: ", Part),
    ("UBSAN", Start, "UBSAN: ", Part),
    ("UBSAN", Anywhere, "Internal error: UBSAN: ", Part),
    ("kmemleak", Anywhere, " new suspected memory leaks", Report),
    ("SLUB", Start, "BUG ", Report),
    // Locks: kernel/locking/lockdep.c, lib/locking-selftest.c, kernel/rcu.
    (
        "lockdep",
        Anywhere,
        "possible circular locking dependency detected",
        Report,
    ),
    (
        "lockdep",
        Anywhere,
        "possible recursive locking detected",
        Report,
    ),
    (
        "lockdep",
        Anywhere,
        "possible irq lock inversion dependency detected",
        Report,
    ),
    ("lockdep", Anywhere, "-unsafe lock order detected", Report),
    ("lockdep", Anywhere, "inconsistent lock state", Report),
    ("lockdep", Anywhere, "suspicious RCU usage", Report),
    ("lockdep", Anywhere, "bad unlock balance detected!", Report),
    ("lockdep", Anywhere, "bad contention detected!", Report),
    ("lockdep", Anywhere, "held lock freed!", Report),
    ("lockdep", Anywhere, "still has locks held!", Report),
    (
        "lockdep",
        Anywhere,
        "lock held when returning to user space!",
        Report,
    ),
    ("lockdep", Anywhere, "Nested lock was not taken", Report),
    ("lockdep", Anywhere, "Invalid wait context", Report),
    (
        "lockdep",
        Start,
        "INFO: trying to register non-static key",
        Report,
    ),
    // What hangs: kernel/watchdog.c, kernel/watchdog_perf.c, kernel/hung_task.c, kernel/rcu/tree_stall.h, kernel/workqueue.c.
    ("soft lockup", Anywhere, "BUG: soft lockup - CPU#", Stall),
    (
        "hard lockup",
        Anywhere,
        "atchdog detected hard LOCKUP",
        Stall,
    ),
    ("hung task", Anywhere, " blocked for more than ", Report),
    (
        "hung task",
        Anywhere,
        " blocked in I/O wait for more than ",
        Report,
    ),
    ("RCU stall", Anywhere, "self-detected stall on CPU", Stall),
    (
        "RCU stall",
        Anywhere,
        "detected stalls on CPUs/tasks",
        Stall,
    ),
    (
        "RCU stall",
        Anywhere,
        "detected expedited stalls on CPUs/tasks",
        Stall,
    ),
    (
        "RCU stall",
        Anywhere,
        "rcu_tasks detected stalls on tasks",
        Stall,
    ),
    ("workqueue lockup", Anywhere, "BUG: workqueue lockup", Stall),
    // No memory: mm/oom_kill.c.
    ("OOM kill", Anywhere, " invoked oom-killer: ", OutOfMemory),
    ("OOM kill", Start, "Out of memory", OutOfMemory),
    (
        "OOM kill",
        Start,
        "Memory cgroup out of memory: ",
        OutOfMemory,
    ),
    // Objects: lib/refcount.c, lib/list_debug.c, mm/page_alloc.c, mm/memory.c.
    ("refcount", Start, "refcount_t: ", Part),
    ("list corruption", Start, "list_add corruption", Part),
    ("list corruption", Start, "list_del corruption", Part),
    ("list corruption", Start, "list_add double add", Part),
    ("bad page", Start, "BUG: Bad page ", Report),
    ("bad page", Start, "BUG: Bad rss-counter", Report),
    // Died: arch/*/kernel/traps.c, arch/*/mm/fault.c.
    ("kernel BUG", Start, "kernel BUG at ", Part),
    ("kernel panic", Start, "Kernel panic", Part),
    ("Oops", Start, "Oops", Part),
    ("Oops", Start, "Internal error: ", Part),
    (
        "general protection fault",
        Start,
        "general protection fault",
        Part,
    ),
    ("Oops", Start, "invalid opcode: ", Part),
    ("Oops", Start, "divide error: ", Part),
    ("Oops", Start, "stack segment: ", Part),
    ("Oops", Start, "double fault: ", Part),
    ("Oops", Start, "traps: PANIC: ", Part),
    ("Oops", Start, "Unable to handle kernel ", Report),
    ("Oops", Start, "Kernel access of bad area", Report),
    (
        "Oops",
        Start,
        "Insufficient stack space to handle exception",
        Report,
    ),
    ("Oops", Anywhere, "SError Interrupt on CPU", Report),
    ("Oops", Anywhere, "nVHE hyp panic at: ", Report),
    ("Oops", Anywhere, "nVHE hyp BUG at: ", Report),
    (
        "unchecked MSR access",
        Start,
        "unchecked MSR access error: ",
        Report,
    ),
    ("BUG", Start, "BUG: ", Report),
    ("WARNING", Start, "WARNING: ", Part),
];

/// What the kernel prints above a WARN, a BUG and a report of UBSAN (include/asm-generic/bug.h).
const CUT_HERE: &str = "[ cut here ]";

/// What ends a report (kernel/panic.c).
const ENDS: &[&str] = &["---[ end trace", "---[ end Kernel panic"];

/// The shortest rule of `=` around a report.
const RULE: usize = 20;

/// The name and the kind of the splat that this line tells of.
pub fn find(line: &str) -> Option<(&'static str, Kind)> {
    let fits = |at: At, pattern: &str| match at {
        Start => line.starts_with(pattern),
        Anywhere => line.contains(pattern),
    };
    SPLATS
        .iter()
        .find(|(_, at, pattern, _)| fits(*at, pattern))
        .map(|(name, _, _, kind)| (*name, *kind))
}

/// Whether a report is about to begin, whatever it says.
pub fn is_cut(line: &str) -> bool {
    line.starts_with("----") && line.contains(CUT_HERE)
}

/// Whether a splat of this kind has come to its end with this line.
pub fn is_end(line: &str, kind: Kind) -> bool {
    let is_rule = || line.len() >= RULE && line.bytes().all(|byte| byte == b'=');
    let has_killed = || kind == OutOfMemory && line.contains("Killed process ");
    ENDS.iter().any(|end| line.starts_with(end)) || is_rule() || has_killed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_of_splats_have_their_names() {
        for (line, name) in [
            (
                "WARNING: CPU: 1 PID: 3511 at arch/x86/kvm/mmu/mmu.c:7042 kvm_mmu_commit_zap_page+0x1a/0x2b [kvm]",
                "WARNING",
            ),
            (
                "WARNING: arch/x86/kvm/x86.c:11 at vcpu_run+0x1a/0x2b [kvm], CPU#1: dirty_log_test/3511",
                "WARNING",
            ),
            (
                "BUG: kernel NULL pointer dereference, address: 0000000000000008",
                "BUG",
            ),
            (
                "BUG: unable to handle page fault for address: ffffc90000000000",
                "BUG",
            ),
            ("Oops: 0000 [#1] PREEMPT SMP NOPTI", "Oops"),
            (
                "Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
                "Oops",
            ),
            (
                "general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
                "general protection fault",
            ),
            (
                "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000",
                "Oops",
            ),
            ("kernel BUG at virt/kvm/kvm_main.c:42!", "kernel BUG"),
            (
                "BUG: KASAN: slab-use-after-free in kvm_vcpu_ioctl+0x1/0x2",
                "KASAN",
            ),
            ("BUG: KCSAN: data-race in a / b", "KCSAN"),
            ("BUG: KFENCE: use-after-free read in x+0x1/0x2", "KFENCE"),
            (
                "UBSAN: array-index-out-of-bounds in arch/x86/kvm/svm/svm.c:12:3",
                "UBSAN",
            ),
            (
                "WARNING: possible circular locking dependency detected",
                "lockdep",
            ),
            ("WARNING: suspicious RCU usage", "lockdep"),
            ("WARNING: inconsistent lock state", "lockdep"),
            (
                "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [dirty_log_test:3511]",
                "soft lockup",
            ),
            (
                "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1",
                "hard lockup",
            ),
            (
                "watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1",
                "hard lockup",
            ),
            (
                "rcu: INFO: rcu_preempt self-detected stall on CPU",
                "RCU stall",
            ),
            (
                "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
                "RCU stall",
            ),
            (
                "INFO: task dirty_log_test:3511 blocked for more than 120 seconds.",
                "hung task",
            ),
            (
                "stress invoked oom-killer: gfp_mask=0x140cca, order=0, oom_score_adj=1000",
                "OOM kill",
            ),
            (
                "Memory cgroup out of memory: Killed process 3511 (x) total-vm:1kB",
                "OOM kill",
            ),
            ("refcount_t: underflow; use-after-free.", "refcount"),
            (
                "BUG: Bad page state in process dirty_log_test  pfn:1a2b3",
                "bad page",
            ),
            (
                "list_del corruption. prev->next should be ffff, but was dead",
                "list corruption",
            ),
            (
                "unchecked MSR access error: WRMSR to 0x10 (tried to write 0x0) at rIP: 0xf",
                "unchecked MSR access",
            ),
            (
                "kvm [1]: nVHE hyp panic at: [<ffff>] __kvm_nvhe_x+0x1/0x2!",
                "Oops",
            ),
            (
                "Kernel panic - not syncing: Fatal exception",
                "kernel panic",
            ),
        ] {
            assert_eq!(find(line).map(|(name, _)| name), Some(name), "{line}");
        }
    }

    #[test]
    fn what_programs_of_user_space_do_wrong_is_no_splat() {
        for line in [
            "traps: x[3511] general protection fault ip:401136 sp:7ffe error:0 in x[401000+1000]",
            "x[3511]: segfault at 0 ip 0000000000401136 sp 00007ffe error 4 in x[401000+1000]",
            "kvm: Nested Virtualization enabled",
            "kvm [3511]: vcpu0, guest rIP: 0x401 unhandled rdmsr: 0xc0",
            "kvm_intel: unknown parameter 'bogus' ignored",
            "INFO: lockdep is turned off.",
            "rcu: Hierarchical RCU implementation.",
            "page: refcount:1 mapcount:0",
            "x86/fpu: WARNING in a name",
            "",
        ] {
            assert_eq!(find(line), None, "{line}");
        }
    }

    #[test]
    fn reports_begin_and_end_with_their_marks() {
        assert!(is_cut("------------[ cut here ]------------") && !is_cut("not [ cut here ]"));
        assert!(is_end("---[ end trace 0000000000000000 ]---", Kind::Part));
        assert!(is_end(&"=".repeat(66), Kind::Report) && !is_end("====", Kind::Report));
        let killed = "Out of memory: Killed process 3511 (x) total-vm:1kB";
        assert!(is_end(killed, Kind::OutOfMemory) && !is_end(killed, Kind::Report));
    }
}
