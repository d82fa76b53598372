//! What every Prometheus client tells about its process, read when it is asked for.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// `process_*`, from `/proc/self`.
#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let Some(stat) = Stat::parse(&stat) else { return Ok(()) };
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            let metric_encoder =
                encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(metric_encoder)
        };
        gauge("process_resident_memory_bytes", "Resident memory", stat.resident_bytes)?;
        gauge("process_virtual_memory_bytes", "Virtual memory", stat.virtual_bytes)?;
        gauge("process_open_fds", "Open descriptors", open_descriptors())?;
        gauge("process_max_fds", "Descriptors that may be open", most_descriptors())?;
        gauge("process_start_time_seconds", "When it started", stat.started())?;
        let cpu = ConstCounter::new(stat.cpu_seconds);
        let kind = cpu.metric_type();
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", "CPU time", None, kind)?)
    }
}

/// Parts of `/proc/self/stat` (proc_pid_stat(5)).
struct Stat {
    cpu_seconds: f64,
    /// Since boot.
    start_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The command's name may hold blanks; it ends with the last parenthesis.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |field: usize| fields.get(field - 3)?.trim().parse::<f64>().ok();
        let ticks = sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
        let page = sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?;
        Some(Self {
            cpu_seconds: (number(14)? + number(15)?) / ticks,
            start_seconds: number(22)? / ticks,
            virtual_bytes: number(23)?,
            resident_bytes: number(24)? * page,
        })
    }

    /// Seconds since 1970.
    fn started(&self) -> f64 {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "));
        boot.and_then(|boot| boot.trim().parse::<f64>().ok()).unwrap_or_default()
            + self.start_seconds
    }
}

fn sysconf(variable: nix::unistd::SysconfVar) -> Option<f64> {
    let value = nix::unistd::sysconf(variable).ok()??;
    i32::try_from(value).ok().map(f64::from)
}

fn most_descriptors() -> f64 {
    use nix::sys::resource::{Resource, getrlimit};
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft).unwrap_or_default();
    u32::try_from(limit).map_or(f64::INFINITY, f64::from)
}

fn open_descriptors() -> f64 {
    let count = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    u32::try_from(count).map_or(0.0, f64::from)
}
