//! What counts as a splat: a table of how the kernel's complaints begin.

use crate::model::outcome::Splat;

/// How the lines of a splat are told from others, and whom they accuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A report of the thread that ran into it.
    Report,
    /// Goes on with, or names, a report that has begun; begins one where none has.
    Part,
    /// CPUs that are stuck: other CPUs add to it.
    Stall,
    /// The kernel ran out of memory: whom it killed matters, not who asked for memory.
    OutOfMemory,
}

use Kind::{OutOfMemory, Part, Report, Stall};

/// A name for people, and patterns: after `^` a line's beginning, else a part of it. The first that fits counts.
///
/// Those that may stand anywhere come after a prefix (`watchdog: `, `kvm [1]: `) or a name, and are too long to stand in a
/// process's name, of which the kernel logs 15 bytes. What a program of user space does wrong is none of them
/// (`traps: x[1] general protection fault ip:…`, `x[1]: segfault at …`): these begin otherwise.
#[rustfmt::skip]
const SPLATS: &[(&str, Kind, &[&str])] = &[
    // Sanitizers: lib/Kconfig.{kasan,kcsan,kmsan,kfence,ubsan}.
    ("KASAN", Report, &["^BUG: KASAN: "]),
    ("KCSAN", Report, &["^BUG: KCSAN: "]),
    ("KMSAN", Report, &["^BUG: KMSAN: "]),
    ("KFENCE", Report, &["^BUG: KFENCE: "]),
    ("KASAN", Part, &["^KASAN: "]),
    ("UBSAN", Part, &["^UBSAN: ", "Internal error: UBSAN: "]),
    ("kmemleak", Report, &[" new suspected memory leaks"]),
    ("SLUB", Report, &["^BUG "]),
    // Locks: kernel/locking/lockdep.c, lib/locking-selftest.c, kernel/rcu.
    ("lockdep", Report, &[
        "possible circular locking dependency detected", "possible recursive locking detected",
        "possible irq lock inversion dependency detected", "-unsafe lock order detected", "inconsistent lock state",
        "suspicious RCU usage", "bad unlock balance detected!", "bad contention detected!", "held lock freed!",
        "still has locks held!", "lock held when returning to user space!", "Nested lock was not taken",
        "Invalid wait context", "^INFO: trying to register non-static key",
    ]),
    // What hangs: kernel/watchdog.c, kernel/watchdog_perf.c, kernel/hung_task.c, kernel/rcu/tree_stall.h,
    // kernel/workqueue.c.
    ("soft lockup", Stall, &["BUG: soft lockup - CPU#"]),
    ("hard lockup", Stall, &["atchdog detected hard LOCKUP"]),
    ("hung task", Report, &[" blocked for more than ", " blocked in I/O wait for more than "]),
    ("RCU stall", Stall, &[
        "self-detected stall on CPU", "detected stalls on CPUs/tasks",
        "detected expedited stalls on CPUs/tasks", "rcu_tasks detected stalls on tasks",
    ]),
    ("workqueue lockup", Stall, &["BUG: workqueue lockup"]),
    // No memory: mm/oom_kill.c.
    ("OOM kill", OutOfMemory, &[" invoked oom-killer: ", "^Out of memory", "^Memory cgroup out of memory: "]),
    // Objects: lib/refcount.c, lib/list_debug.c, mm/page_alloc.c, mm/memory.c.
    ("refcount", Part, &["^refcount_t: "]),
    ("list corruption", Part, &["^list_add corruption", "^list_del corruption", "^list_add double add"]),
    ("bad page", Report, &["^BUG: Bad page ", "^BUG: Bad rss-counter"]),
    // Died: arch/*/kernel/traps.c, arch/*/mm/fault.c.
    ("kernel BUG", Part, &["^kernel BUG at "]),
    ("kernel panic", Part, &["^Kernel panic"]),
    ("general protection fault", Part, &["^general protection fault"]),
    ("Oops", Part, &[
        "^Oops", "^Internal error: ", "^invalid opcode: ", "^divide error: ", "^stack segment: ",
        "^double fault: ", "^traps: PANIC: ",
    ]),
    ("Oops", Report, &[
        "^Unable to handle kernel ", "^Kernel access of bad area",
        "^Insufficient stack space to handle exception", "SError Interrupt on CPU",
        "nVHE hyp panic at: ", "nVHE hyp BUG at: ",
    ]),
    ("unchecked MSR access", Report, &["^unchecked MSR access error: "]),
    ("BUG", Report, &["^BUG: "]),
    ("WARNING", Part, &["^WARNING: "]),
];

/// The name and the kind of the splat that this line tells of.
pub(super) fn find(line: &str) -> Option<(&'static str, Kind)> {
    let fits = |pattern: &&str| match pattern.strip_prefix('^') {
        Some(start) => line.starts_with(start),
        None => line.contains(pattern),
    };
    let mut found = SPLATS.iter().filter(|row| row.2.iter().any(fits));
    found.next().map(|(name, kind, _)| (*name, *kind))
}

/// Whether a report is about to begin, whatever it says: what stands above a WARN, a BUG and a report of UBSAN
/// (include/asm-generic/bug.h).
pub(super) fn is_cut(line: &str) -> bool {
    line.starts_with("----") && line.contains("[ cut here ]")
}

/// Whether a splat of this kind has come to its end with this line: kernel/panic.c marks it, a rule of `=` is around many
/// reports, and a process is killed.
pub(super) fn is_end(line: &str, kind: Kind) -> bool {
    line.starts_with("---[ end trace")
        || line.starts_with("---[ end Kernel panic")
        || line.len() >= 20 && line.bytes().all(|byte| byte == b'=')
        || kind == OutOfMemory && line.contains("Killed process ")
}

/// Whether a splat has a line that contains the parts of one of `patterns` between its `*`, one after another.
pub(super) fn is_ignored<'a>(
    splat: &Splat,
    mut patterns: impl Iterator<Item = &'a String>,
) -> bool {
    patterns.any(|pattern| splat.lines.iter().any(|line| contains(line, pattern)))
}

fn contains(line: &str, pattern: &str) -> bool {
    after(line, pattern.split('*')).is_some()
}

/// What follows these marks, each after the one before.
pub(super) fn after<'a, 'm>(
    line: &'a str,
    marks: impl IntoIterator<Item = &'m str>,
) -> Option<&'a str> {
    let rest = |rest: &'a str, mark: &'m str| rest.split_once(mark).map(|(_, rest)| rest);
    marks.into_iter().try_fold(line, rest)
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

    #[test]
    fn a_pattern_fits_what_contains_it() {
        let line = "WARNING: CPU: 1 PID: 2 at arch/x86/kvm/mmu.c:12 zap+0x1/0x2 [kvm]";
        for (pattern, fits) in [
            ("zap+", true),
            ("[kvm]", true),
            ("WARNING*zap", true),
            ("zap*WARNING", false),
            ("kvm/x86.c", false),
        ] {
            assert_eq!(contains(line, pattern), fits, "{pattern}");
        }
    }
}
