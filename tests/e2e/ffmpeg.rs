//! A live ffmpeg as a camera, over a pipe and over HTTP.

#[allow(dead_code)]
mod job;

use std::fs;
use std::net::TcpListener;
use std::process::{Command, ExitCode, Output, Stdio};

use convoy_testing::{Check, run_checks};
use job::{Job, Process, convoy, wait_for};

fn main() -> ExitCode {
    let tried = Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let needed = || tried.as_ref().map(|_| ()).map_err(|_| "ffmpeg");
    run_checks([
        Check::needs("ffmpeg_through_a_pipe_is_a_camera", needed(), |()| through_a_pipe()),
        Check::needs("a_server_of_ffmpeg_that_is_killed_and_comes_back_is_a_camera", needed(), |()| over_http()),
    ])
}

/// An ffmpeg that makes a test picture 20 times a second, `seconds` long, and sends it to `to`.
fn ffmpeg(seconds: u32, to: &[&str]) -> Command {
    let mut command = Command::new("ffmpeg");
    let source = format!("testsrc=size=64x48:rate=20:duration={seconds}");
    command.args(["-loglevel", "error", "-re", "-f", "lavfi", "-i", &source, "-c:v", "mjpeg", "-f"]).args(to);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn through_a_pipe() {
    let job = Job::new();
    job.train("run", &["--workers", "1"]);
    let run = job.path("run");
    let mut sender = Process(ffmpeg(2, &["image2pipe", "-"]).spawn().expect("ffmpeg is there"));
    let mut command = convoy();
    command.arg("predict").arg(&run).args(["--camera", "-", "--json"]).stdin(sender.0.stdout.take().expect("a pipe"));
    let output = command.output().expect("convoy starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let last: serde_json::Value = serde_json::from_str(stdout.lines().last().expect("a frame")).expect("JSON");
    assert_eq!((output.status.success(), last["frame"].as_u64()), (true, Some(40)), "{}", said(&output));
}

fn over_http() {
    let job = Job::new();
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it is bound").port();
    let address = format!("http://127.0.0.1:{port}/camera");
    let serve = || Process(ffmpeg(600, &["mpjpeg", "-listen", "1", &address]).spawn().expect("ffmpeg is there"));
    let server = serve();
    wait_for("ffmpeg", || {
        // At this address: the port may be another process's at another one.
        let line = format!("0100007F:{port:04X} 00000000:0000 0A");
        fs::read_to_string("/proc/net/tcp").ok()?.contains(&line).then_some(())
    });
    let out = job.path("photos");
    let mut command = convoy();
    command.args(["data", "record", "--camera", &address, "--label", "test", "--count", "30", "--out"]).arg(&out);
    let mut recorder = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("convoy starts");
    let recorded = || out.join("test").read_dir().map_or(0, Iterator::count);
    let ended = wait_for("ten pictures, or its end", || {
        let ended = recorder.try_wait().expect("it was started").is_some();
        (ended || recorded() >= 10).then_some(ended)
    });
    if ended {
        panic!("{}", said(&recorder.wait_with_output().expect("convoy ends")));
    }
    // It is killed in the middle of something. The next one listens until the recorder is back, which may be too short
    // a time to be seen.
    drop(server);
    let _server = serve();
    let output = recorder.wait_with_output().expect("convoy ends");
    assert!(output.status.success() && recorded() == 30, "{}", said(&output));
}
