//! Cameras as sources: streams of ffmpeg, over HTTP and on standard input, that break, come back, or are none.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::errors::check;
use crate::job::{Job, convoy};

/// Five JPEG files, and nothing else.
const PIPE: &[u8] = include_bytes!("../reference/camera/pipe.mjpeg");
/// The same as ffmpeg's server answers, in chunks and with its header.
const LISTEN: &[u8] = include_bytes!("../reference/camera/listen.http");

/// A run folder, and its path as a word of a command line.
fn trained() -> (Job, String) {
    let job = Job::new();
    job.train("run", &["--workers", "1"]);
    let run = job.path("run").display().to_string();
    (job, run)
}

fn start(args: &[&str]) -> Child {
    let mut command = convoy();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("convoy starts")
}

/// What a command says that gets `bytes` on standard input.
fn piped(args: &[&str], bytes: &[u8]) -> Output {
    let mut child = start(args);
    child.stdin.take().expect("a pipe").write_all(bytes).expect("convoy reads");
    child.wait_with_output().expect("convoy ends")
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn objects(output: &Output) -> Vec<Value> {
    lines(output).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A camera: answers one request after the other with `answers`, and hangs up after each but for the last.
fn camera(answers: &[&[u8]]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}/video", listener.local_addr().expect("it is bound"));
    let answers: Vec<Vec<u8>> = answers.iter().map(|answer| answer.to_vec()).collect();
    std::thread::spawn(move || {
        let mut last: Option<TcpStream> = None;
        for answer in answers {
            drop(last.take());
            let (mut client, _) = listener.accept().expect("a request");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).expect("a request");
                request.extend(byte);
            }
            client.write_all(&answer).expect("convoy reads");
            last = Some(client);
        }
        // Until the other end has gone.
        let mut last = last.expect("an answer");
        while matches!(last.read(&mut [0; 100]), Ok(1..)) {}
    });
    address
}

#[test]
fn frames_are_predicted_as_their_files_are() {
    let (job, run) = trained();
    let recorded = job.path("photos").display().to_string();
    let record = ["data", "record", "--camera", "-", "--label", "all", "--out", &recorded, "--no-drop", "--json"];
    let output = piped(&record, PIPE);
    let files: Vec<String> =
        objects(&output).iter().map(|file| file["path"].as_str().expect("a path").to_owned()).collect();
    assert_eq!(files.len(), 5, "{}", said(&output));
    let bytes: Vec<u8> = files.iter().flat_map(|file| fs::read(file).expect("it was recorded")).collect();
    assert_eq!(bytes, PIPE, "as they came");

    let predict = ["predict", &run, "--camera", "-", "--no-drop", "--top", "3"];
    let by_camera = objects(&piped(&[&predict[..], &["--json"]].concat(), PIPE));
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let by_file = convoy().args(["predict", &run, "--json", "--top", "3"]).args(&files).output();
    let by_file = objects(&by_file.expect("convoy starts"));
    let answers = |objects: &[Value]| objects.iter().map(|line| line["predictions"].clone()).collect::<Vec<Value>>();
    assert_eq!(answers(&by_camera), answers(&by_file), "the same decoder, the same network");
    assert_eq!((&by_camera[4]["frame"], &by_camera[4]["dropped"]), (&5.into(), &0.into()));

    let output = piped(&[&predict[..], &["--count", "2"]].concat(), PIPE);
    let shown = lines(&output);
    assert!(shown.len() == 2 && shown[1].starts_with("2\t") && shown[1].ends_with(" frames/s"), "{shown:?}");
    assert!(said(&output).contains("standard input: 2 frames used"), "{}", said(&output));
    let output = piped(&["predict", &run, "--camera", "-", "--json"], PIPE);
    assert!(output.status.success() && !objects(&output).is_empty(), "{}", said(&output));
    assert_eq!(objects(&output).last().expect("a frame")["frame"], 5, "the newest is never dropped");
}

#[test]
fn a_recording_overwrites_nothing() {
    let job = Job::new();
    let out = job.path("photos").display().to_string();
    let record = ["data", "record", "--camera", "-", "--label", "cat", "--out", &out, "--no-drop"];
    let broken = [&PIPE[..400], b"\xff\xda\0\x02\xff\xd9", PIPE].concat();
    let first = piped(&[&record[..], &["--count", "2"]].concat(), &broken);
    assert_eq!(lines(&first), [format!("{out}/cat/000001.jpg"), format!("{out}/cat/000002.jpg")]);
    assert!(said(&first).contains("frame 1: is a truncated, corrupt"), "{}", said(&first));
    let kept = fs::read(job.path("photos/cat/000002.jpg")).expect("it was recorded");
    assert_eq!(lines(&piped(&record, PIPE))[0], format!("{out}/cat/000003.jpg"));
    assert_eq!(fs::read(job.path("photos/cat/000002.jpg")).expect("it is there"), kept);
    check(&["data", "record", "--camera", "-", "--label", "../x", "--out", &out], 2, &["no slash"]);
}

#[test]
fn a_stream_that_breaks_is_asked_for_again() {
    let (_job, run) = trained();
    let torn = &LISTEN[..LISTEN.len() / 2];
    let address = camera(&[torn, b"HTTP/1.1 503 Busy\r\n\r\n", LISTEN, LISTEN]);
    let output = piped(&["predict", &run, "--camera", &address, "--json", "--no-drop", "--count", "10"], b"");
    let notes = said(&output);
    assert!(output.status.success(), "{notes}");
    let numbers: Vec<u64> = objects(&output).iter().filter_map(|line| line["frame"].as_u64()).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<u64>>(), "{notes}");
    assert!(notes.contains("Trying again") && notes.contains("pictures come again"), "{notes}");
    assert!(notes.contains("1 cut off before their end"), "{notes}");

    let address = camera(&[LISTEN]);
    let output = piped(&["predict", &run, "--camera", &address, "--no-drop", "--count", "5"], b"");
    assert!(output.status.success() && lines(&output).len() == 5, "{}", said(&output));
}

#[test]
fn an_interrupt_ends_it_well() {
    let (_job, run) = trained();
    let mut child = start(&["predict", &run, "--camera", &camera(&[LISTEN]), "--json"]);
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0]).expect("a first frame");
    child.stdout = Some(stdout);
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill starts").success());
    let output = child.wait_with_output().expect("convoy ends");
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(said(&output).contains("used ("), "{}", said(&output));
}

#[test]
fn what_is_no_camera_is_told_in_words() {
    let (job, run) = trained();
    let refused = |camera: &str, code, words: &[&str]| check(&["predict", &run, "--camera", camera], code, words);
    refused("-", 1, &["standard input sends no JPEG pictures: nothing came"]);
    refused(&camera(&[b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"]), 1, &["text/html"]);
    refused(&camera(&[b"HTTP/1.0 404 Not Found\r\n\r\n"]), 3, &["/video answers 404 Not Found"]);
    let endless = [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'y'; 70_000]].concat();
    refused(&camera(&[&endless]), 1, &["its header has more than 65536 bytes"]);
    let parts = [
        &b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=b\r\n\r\n--b\r\nX: "[..],
        &[b'y'; 1 << 20],
    ];
    refused(&camera(&[&parts.concat()]), 1, &["what came is text: \"--b\\r\\nX: yyy"]);
    refused("/dev/video0", 2, &["ffmpeg -loglevel error -f v4l2 -i /dev/video0 -f image2pipe -c:v mjpeg"]);
    refused("https://192.0.2.1/video", 2, &["ffmpeg -loglevel error -i https://192.0.2.1/video"]);
    let page = piped(&["predict", &run, "--camera", "-"], b"<!doctype html><title>Camera</title>");
    assert!(page.status.code() == Some(1) && said(&page).contains("a web page (HTML)"), "{}", said(&page));
    check(&["predict", &run, "--camera", "-", "cat.jpg"], 2, &["--camera"]);
    check(&["predict", &run, "cat.jpg", "--every", "1s"], 2, &["--camera"]);
    let out = job.path("photos").display().to_string();
    check(&["data", "record", "--camera", "-", "--label", "x", "--out", &out], 1, &["nothing came"]);
    assert!(Path::new(&out).join("x").read_dir().expect("a folder").next().is_none());
}
