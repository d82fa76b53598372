//! The life of a container: start it, probe it, wait, start it again or not, end it.

use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::pipe2;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::console::Console;
use super::container::{Run, Runner, is_builtin, program, restart_delay};
use super::env::{self, Surroundings, expand};
use super::events::Severity::{Normal, Warning};
use super::pod::Pod;
use super::probe::{Asking, Counter};
use super::spec::{Action, Container, Probe, RestartPolicy};
use super::streams::{Streams, Wanted};
use crate::launch::{DEFAULT_PATH, Launch, Started};
use crate::process::{Exit, Process};

/// A run this long clears the record of failures, as in the real kubelet.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// The first pause between questions to a container that has never been ready.
const EAGER: Duration = Duration::from_millis(10);
/// How long the last output of a container that has ended is waited for.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// The pause before a failed set-up is tried again.
const SETUP_RETRY: Duration = Duration::from_secs(10);

/// Why a container was not started.
enum Refusal {
    /// It will not work until the pod changes: the reason, and the message.
    Waiting(&'static str, String),
    /// The program could not be executed.
    Start(String),
}

/// A run that has begun.
struct Begun {
    process: Process,
    /// They end with the container's output.
    output: Vec<JoinHandle<()>>,
}

/// When a runner stops for good: the grace period to give.
pub(super) type Stop = watch::Receiver<Option<Duration>>;

/// Runs a container until it shall not be started again.
pub(super) async fn run(pod: Rc<Pod>, runner: Rc<Runner>, policy: RestartPolicy, mut stop: Stop) {
    let mut ended_before = 0;
    loop {
        if stop.borrow().is_some() {
            return;
        }
        let began = Instant::now();
        match start(&pod, &runner).await {
            Ok(begun) => attend(&pod, &runner, begun, &stop).await,
            Err(Refusal::Start(message)) => {
                pod.event(Some(&runner.spec.name), Warning, "Failed", format!("Error: {message}"));
                runner.not_started("StartError", message);
            }
            Err(Refusal::Waiting("ErrImagePull", message)) => {
                return no_image(&pod, &runner, message, &mut stop).await;
            }
            Err(Refusal::Waiting(reason, message)) => {
                pod.event(Some(&runner.spec.name), Warning, "Failed", format!("Error: {message}"));
                runner.waiting(reason, message);
                if pause(SETUP_RETRY, &mut stop).await {
                    return;
                }
                continue;
            }
        }
        let failed = !runner.status.borrow().succeeded();
        let again = match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => failed,
            RestartPolicy::Never => false,
        };
        if !again || stop.borrow().is_some() {
            return;
        }
        ended_before = if began.elapsed() > FORGIVEN_AFTER { 1 } else { ended_before + 1 };
        let delay = restart_delay(ended_before);
        if !delay.is_zero() {
            let (name, title) = (&runner.spec.name, pod.title());
            runner.waiting(
                "CrashLoopBackOff",
                format!("back-off {} restarting failed container={name} pod={title}", short(delay)),
            );
            pod.event(
                Some(name),
                Warning,
                "BackOff",
                format!("Back-off restarting failed container {name} in pod {title}"),
            );
            if pause(delay, &mut stop).await {
                return;
            }
        }
        runner.update(|status| status.restarts += 1);
    }
}

/// Runs a command in the container and gives its exit code and output.
pub(super) async fn exec(
    pod: &Pod,
    runner: &Runner,
    command: Vec<String>,
) -> Result<(i32, String), String> {
    use tokio::io::AsyncReadExt;
    let launch =
        runner.enter().ok_or("the container does not run")?.map_err(|error| error.to_string())?;
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|error| error.to_string())?;
    let write_err = write.try_clone().map_err(|error| error.to_string())?;
    let (process, started) = pod
        .children()
        .launch(Launch { program: command, ..launch }, |command| {
            command.stdin(Stdio::null()).stdout(write).stderr(write_err);
        })
        .map_err(|error| error.to_string())?;
    // A caller that gives up drops this future: the command must not outlive it.
    let mut guard = KillOnDrop(process);
    started.wait().await?;
    let mut output = Vec::new();
    let from = pipe::Receiver::from_owned_fd(read).map_err(|error| error.to_string())?;
    let mut from = from.take(MOST_OUTPUT);
    let (_, exit) = tokio::join!(from.read_to_end(&mut output), guard.0.wait());
    Ok((exit.code, String::from_utf8_lossy(&output).into_owned()))
}

struct KillOnDrop(Process);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if self.0.is_running() {
            self.0.signal_group(Signal::SIGKILL);
        }
    }
}

async fn start(pod: &Rc<Pod>, runner: &Rc<Runner>) -> Result<Begun, Refusal> {
    let container = &runner.spec;
    let config = |message: String| Refusal::Waiting("CreateContainerConfigError", message);
    let object = pod.described();
    let objects = pod.fetch(env::references(container)).await.map_err(config)?;
    let services = pod.services();
    let around = Surroundings { pod: &object, services: &services, objects: &objects };
    let mut env = env::env(container, &around).map_err(config)?;
    let program = program(container, |text| expand(text, &env))
        .map_err(|message| Refusal::Waiting("ErrImagePull", message))?;
    pod.event(
        Some(&container.name),
        Normal,
        "Pulled",
        format!("Container image {:?} already present on machine", container.image),
    );
    for (name, value) in [
        ("PATH", DEFAULT_PATH.to_owned()),
        ("HOSTNAME", pod.hostname()),
        ("HOME", "/root".to_owned()),
    ] {
        env.entry(name.to_owned()).or_insert(value);
    }
    if container.tty {
        env.entry("TERM".to_owned()).or_insert_with(|| "xterm".to_owned());
    }
    if is_builtin(container) {
        env.extend(pod.identity());
    }
    let env: Vec<(String, String)> = env.into_iter().collect();
    let root = pod.root(container).map_err(config)?;
    let create = |message: String| Refusal::Waiting("CreateContainerError", message);
    let enter = vec![pod.network().map_err(|error| create(error.to_string()))?];
    let launch = Launch {
        program,
        env: env.clone(),
        enter,
        root: Some(root),
        directory: container.working_dir.clone().filter(|path| !path.is_empty()),
        terminal: container.tty,
        ..Launch::default()
    };
    let log =
        runner.next_log().map_err(|error| create(format!("could not make the log: {error}")))?;
    let (process, started, streams) =
        spawn(pod, container, launch).map_err(|error| create(error.to_string()))?;
    let (console, output) = Console::start(streams, &log);
    pod.event(
        Some(&container.name),
        Normal,
        "Created",
        format!("Created container: {}", container.name),
    );
    let namespaces = started.wait().await.map_err(Refusal::Start)?;
    let id = format!("portolan://{}-{}-{}", pod.uid(), container.name, process.pid());
    let run = Run::new(process.clone(), console, namespaces, env, container.working_dir.clone())
        .map_err(|error| Refusal::Start(error.to_string()))?;
    runner.running(run, id);
    pod.event(
        Some(&container.name),
        Normal,
        "Started",
        format!("Started container {}", container.name),
    );
    Ok(Begun { process, output })
}

fn spawn(
    pod: &Pod,
    container: &Container,
    launch: Launch,
) -> std::io::Result<(Process, Started, Streams)> {
    let (streams, [stdin, stdout, stderr]) = Streams::make(Wanted {
        stdin: container.stdin,
        stdout: true,
        stderr: true,
        terminal: container.tty,
    })?;
    let (process, started) = pod.children().launch(launch, |command| {
        command.stdin(stdin).stdout(stdout).stderr(stderr);
    })?;
    Ok((process, started, streams))
}

/// From the start of a run to its end, by itself, by a probe, or by our wish.
async fn attend(pod: &Rc<Pod>, runner: &Rc<Runner>, begun: Begun, stop: &Stop) {
    let Begun { mut process, output } = begun;
    // What was said of an earlier run.
    let _ = runner.unhealthy.notified().now_or_never();
    let probes = tokio::task::spawn_local(begin(pod.clone(), runner.clone()));
    let mut asked = stop.clone();
    let exit = tokio::select! {
        exit = process.wait() => exit,
        () = runner.unhealthy.notified() => terminate(pod, runner, process.clone(), pod.grace()).await,
        grace = stopped(&mut asked) => {
            pod.event(Some(&runner.spec.name), Normal, "Killing", format!("Stopping container {}", runner.spec.name));
            tokio::select! {
                exit = terminate(pod, runner, process.clone(), grace) => exit,
                exit = cut_short(stop.clone(), process.clone(), grace) => exit,
            }
        }
    };
    probes.abort();
    runner.kill_rest();
    // Nobody is left who writes, unless a process has left the container's mount namespace, or a
    // client that is attached does not listen.
    let _ = tokio::time::timeout(LAST_OUTPUT, futures::future::join_all(output)).await;
    if let Some(log) = runner.log(false) {
        log.close();
    }
    runner.ended(exit);
}

/// The preStop hook, SIGTERM, and SIGKILL when the grace period is over.
async fn terminate(pod: &Rc<Pod>, runner: &Runner, mut process: Process, grace: Duration) -> Exit {
    let mut waiting = process.clone();
    let in_order = async {
        if let Some(hook) = &runner.spec.lifecycle.pre_stop
            && let Err(error) = act(pod, runner, hook, grace).await
        {
            pod.event(
                Some(&runner.spec.name),
                Warning,
                "FailedPreStopHook",
                format!("PreStopHook failed: {error}"),
            );
        }
        runner.signal(Signal::SIGTERM);
        waiting.wait().await
    };
    if !grace.is_zero()
        && let Ok(exit) = tokio::time::timeout(grace, in_order).await
    {
        return exit;
    }
    process.signal_group(Signal::SIGKILL);
    process.wait().await
}

/// Kills at once when, during a grace period, a shorter one is asked for (`--force`).
async fn cut_short(mut stop: Stop, mut process: Process, grace: Duration) -> Exit {
    match stop.wait_for(|now| now.is_some_and(|now| now < grace)).await {
        Ok(_) => {}
        Err(_pod_is_gone) => return std::future::pending().await,
    }
    process.signal_group(Signal::SIGKILL);
    process.wait().await
}

async fn no_image(pod: &Pod, runner: &Runner, message: String, stop: &mut Stop) {
    let image = &runner.spec.image;
    let name = Some(runner.spec.name.as_str());
    pod.event(name, Warning, "Failed", format!("Failed to pull image {image:?}: {message}"));
    pod.event(name, Warning, "Failed", "Error: ErrImagePull");
    runner.waiting("ErrImagePull", message.clone());
    if pause(SETUP_RETRY, stop).await {
        return;
    }
    pod.event(name, Normal, "BackOff", format!("Back-off pulling image {image:?}"));
    runner.waiting("ImagePullBackOff", format!("Back-off pulling image {image:?}: {message}"));
    // No image can appear: only the end of the pod changes anything.
    let _ = stop.wait_for(Option::is_some).await;
}

/// The postStart hook, then the probes. A container whose hook fails is ended.
async fn begin(pod: Rc<Pod>, runner: Rc<Runner>) {
    if let Some(hook) = &runner.spec.lifecycle.post_start
        && let Err(error) = act(&pod, &runner, hook, Duration::MAX).await
    {
        let name = Some(runner.spec.name.as_str());
        let message = format!("PostStartHook failed: {error}");
        pod.event(name, Warning, "FailedPostStartHook", message);
        pod.event(name, Normal, "Killing", "FailedPostStartHook");
        runner.unhealthy.notify_one();
        return;
    }
    probe(pod, runner).await;
}

/// All probes of one run. Readiness and liveness begin when the startup probe has succeeded.
async fn probe(pod: Rc<Pod>, runner: Rc<Runner>) {
    if let Some(startup) = &runner.spec.startup_probe {
        let mut counter = Counter::new(startup);
        tokio::time::sleep(Duration::from_secs(startup.initial_delay_seconds)).await;
        loop {
            match counter.take(ask(&pod, &runner, startup, "Startup").await) {
                Some(true) => break,
                Some(false) => {
                    killing(&pod, &runner, "startup");
                    return;
                }
                None => tokio::time::sleep(Duration::from_secs(startup.period_seconds)).await,
            }
        }
    }
    runner.update(|status| {
        status.started = true;
        status.ready = runner.spec.readiness_probe.is_none();
    });
    tokio::join!(readiness(&pod, &runner), liveness(&pod, &runner));
}

/// A container that has never been ready is asked eagerly: nothing tells when it has opened its
/// port, and a whole period would be lost on most starts. Only questions at the probe's own
/// period are told of.
async fn readiness(pod: &Rc<Pod>, runner: &Rc<Runner>) {
    let Some(probe) = &runner.spec.readiness_probe else { return };
    let period = Duration::from_secs(probe.period_seconds.max(1));
    let mut counter = Counter::new(probe);
    tokio::time::sleep(Duration::from_secs(probe.initial_delay_seconds)).await;
    let mut eager = EAGER;
    while eager < period && answer(pod, runner, probe).await.is_err() {
        tokio::time::sleep(eager).await;
        eager *= 2;
    }
    loop {
        if let Some(ready) = counter.take(ask(pod, runner, probe, "Readiness").await) {
            let changes = runner.status.borrow().ready != ready;
            if changes {
                runner.update(|status| status.ready = ready);
            }
        }
        tokio::time::sleep(period).await;
    }
}

async fn liveness(pod: &Rc<Pod>, runner: &Rc<Runner>) {
    let Some(probe) = &runner.spec.liveness_probe else { return };
    let mut counter = Counter::new(probe);
    tokio::time::sleep(Duration::from_secs(probe.initial_delay_seconds)).await;
    loop {
        tokio::time::sleep(Duration::from_secs(probe.period_seconds.max(1))).await;
        if counter.take(ask(pod, runner, probe, "Liveness").await) == Some(false) {
            killing(pod, runner, "liveness");
            return;
        }
    }
}

fn killing(pod: &Pod, runner: &Runner, probe: &str) {
    let name = &runner.spec.name;
    pod.event(
        Some(name),
        Normal,
        "Killing",
        format!("Container {name} failed {probe} probe, will be restarted"),
    );
    runner.unhealthy.notify_one();
}

/// Asks once and tells of a failure.
async fn ask(pod: &Rc<Pod>, runner: &Rc<Runner>, probe: &Probe, title: &str) -> bool {
    match answer(pod, runner, probe).await {
        Ok(()) => true,
        Err(error) => {
            pod.event(
                Some(&runner.spec.name),
                Warning,
                "Unhealthy",
                format!("{title} probe failed: {error}"),
            );
            false
        }
    }
}

async fn answer(pod: &Rc<Pod>, runner: &Runner, probe: &Probe) -> Result<(), String> {
    act(pod, runner, &probe.action, Duration::from_secs(probe.timeout_seconds.max(1))).await
}

/// Carries out the action of a probe or a hook.
async fn act(
    pod: &Rc<Pod>,
    runner: &Runner,
    action: &Action,
    timeout: Duration,
) -> Result<(), String> {
    if let Some(action) = &action.exec {
        return match tokio::time::timeout(timeout, exec(pod, runner, action.command.clone())).await
        {
            Ok(Ok((0, _))) => Ok(()),
            Ok(Ok((_, output))) => Err(output),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(format!(
                "command timed out: {:?} timed out after {}s",
                action.command.join(" "),
                timeout.as_secs()
            )),
        };
    }
    let Some(address) = pod.address() else {
        return Err("the pod has no address".to_owned());
    };
    Asking { container: &runner.spec, node: pod.node_network(), address }.ask(action, timeout).await
}

/// Waits for the wish to end; the grace period.
async fn stopped(stop: &mut Stop) -> Duration {
    match stop.wait_for(Option::is_some).await {
        Ok(grace) => grace.unwrap_or_default(),
        Err(_pod_is_gone) => Duration::ZERO,
    }
}

/// Waits; true when the container shall stop meanwhile.
async fn pause(time: Duration, stop: &mut Stop) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => false,
        _ = stop.wait_for(Option::is_some) => true,
    }
}

/// `1m20s`, as Go prints a duration.
fn short(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

/// As much of a command's output as a probe's message may hold.
const MOST_OUTPUT: u64 = 10 << 10;
