//! How long it takes to read a configuration of 10,000 tests: `cargo bench -p harness --bench configuration`.

use std::time::Duration;

use harness::config;

const TESTS: usize = 10_000;
const ROUNDS: usize = 20;

fn main() {
    let numbers: Vec<usize> = (0..100).collect();
    let matrix = format!(
        "[[test]]\nname = \"sweep\"\nselftest = \"dirty_log_perf_test\"\nargs = [\"-v\", \"{{a}}\", \"-x\", \"{{b}}\"]\n\
         matrix = {{ a = {numbers:?}, b = {numbers:?} }}\n"
    );
    let toml = repeated("", |index| {
        format!(
            "[[test]]\nname = \"t{index}\"\nselftest = \"dirty_log_perf_test\"\nargs = [\"-v\", \"{{ncpus}}\", \"-g\"]\n\
             timeout_s = 60\nrequires = {{ cpus = 2, memory = \"2G\" }}\n\n"
        )
    });
    let json = repeated("[{\"suite\": \"a\", \"tests\": [\n", |index| {
        let comma = if index + 1 < TESTS { "," } else { "]}]" };
        format!("{{\"name\": \"t{index}\", \"command\": \"./dirty_log_perf_test -v $(nproc) -g\"}}{comma}")
    });
    let wrong = toml.replace("timeout_s", "timeot_s");
    for (what, path, text, problems) in [
        ("10,000 [[test]]", "a.toml", &toml, 0),
        ("a matrix of 10,000", "a.toml", &matrix, 0),
        ("10,000 tests in one line of JSON", "a.json", &json, 0),
        ("10,000 unknown keys", "a.toml", &wrong, TESTS),
    ] {
        let (mut best, mut total) = (Duration::MAX, Duration::ZERO);
        for _ in 0..ROUNDS {
            let start = cpu_time();
            let configuration = config::read_embedded(&[(path, text)]);
            let took = cpu_time() - start;
            assert_eq!(configuration.problems.len(), problems, "{what}");
            assert_eq!(configuration.suites[0].tests.len(), TESTS, "{what}");
            (best, total) = (best.min(took), total + took);
        }
        println!("{what}: {best:.1?} at best, {:.1?} on average", total / ROUNDS as u32);
    }
}

/// What this thread has used of a CPU: what else the machine does matters less to it than to the time of the clock.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn repeated(start: &str, test: impl Fn(usize) -> String) -> String {
    start.to_owned() + &(0..TESTS).map(test).collect::<String>()
}
