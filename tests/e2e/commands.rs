//! The commands that use a trained model, and those that look at data and networks.

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::job::{Job, convoy, report, write_grey};

fn run(args: &[&str]) -> Output {
    convoy().args(args).output().expect("convoy starts")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn json_lines(output: &Output) -> Vec<Value> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Pictures of the three classes of the tiny job, as files.
fn pictures(job: &Job) -> Vec<String> {
    let folder = job.path("pictures/below");
    fs::create_dir_all(&folder).expect("the folder is writable");
    let class = |class: u32| {
        let stripe = |x: u32, y: u32| match class {
            0 => x < 3,
            1 => y < 3,
            _ => x == y,
        };
        let path = folder.join(format!("{class}.png"));
        write_grey(&path, |x, y| if stripe(x, y) { 220 } else { 48 });
        path.display().to_string()
    };
    (0..3).map(class).collect()
}

#[test]
fn eval_finds_the_metrics_of_the_last_epoch_again() {
    let job = Job::new();
    let trained = job.train("run", &["--workers", "2"]);
    let model = job.path("run").display().to_string();
    for threads in ["1", "3"] {
        let found = report(&run(&["eval", &model, "--json", "--threads", threads]));
        assert_eq!(found["metrics"], trained["validation"], "bit for bit");
        assert_eq!(found["samples"], 40);
        let matrix = found["confusion"].as_array().expect("a matrix");
        let total: u64 = matrix.iter().flat_map(|row| row.as_array().expect("a row")).filter_map(Value::as_u64).sum();
        assert_eq!((matrix.len(), total), (3, 40));
    }
    let data = job.path("data").display().to_string();
    let output = run(&["eval", &model, &data, "--json"]);
    let (other, said) = (report(&output), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("IDX files in") && said.contains("all of t10k-images-idx3-ubyte"), "{said}");
    assert_eq!((&other["taken"]["names"], &other["taken"]["labels"]), (&json!(["0", "1", "2"]), &json!("class")));
    assert_eq!(other["metrics"], trained["validation"], "t10k is taken where there is training data, too");
    let table = text(&run(&["eval", &format!("{model}/model")]));
    assert!(table.contains("top1") && table.contains("confusion") && table.contains("recall"), "{table}");
}

#[test]
fn eval_refuses_data_that_changed_and_classes_that_are_unknown() {
    let job = Job::new();
    job.train("run", &["--workers", "1"]);
    let model = job.path("run").display().to_string();
    pictures(&job);
    let other = job.path("pictures").display().to_string();
    let refused = run(&["eval", &model, &other]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("below"), "the unknown class is named");
    let path = job.path("data/t10k-images-idx3-ubyte");
    let mut bytes = fs::read(&path).expect("a file");
    bytes[100] ^= 1;
    fs::write(&path, bytes).expect("the file is writable");
    let refused = run(&["eval", &model]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("changed"));
}

#[test]
fn predict_takes_files_folders_and_standard_input() {
    let job = Job::new();
    job.train("run", &["--workers", "1"]);
    let model = job.path("run").display().to_string();
    let files = pictures(&job);
    let by_name = json_lines(&run(&["predict", &model, &files[0], &files[1], &files[2], "--json", "--top", "3"]));
    assert_eq!(by_name.len(), 3);
    for (class, line) in by_name.iter().enumerate() {
        let best = line["predictions"].as_array().expect("a list");
        assert_eq!((line["path"].as_str(), best.len()), (Some(files[class].as_str()), 3));
        assert_eq!(best[0]["class"], class.to_string(), "{line}");
        let sum: f64 = best.iter().filter_map(|entry| entry["probability"].as_f64()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{line}");
    }
    let folder = job.path("pictures").display().to_string();
    fs::write(job.path("pictures/notes.txt"), "no picture").expect("the folder is writable");
    let output = run(&["predict", &model, &folder, "--json", "--top", "3", "--threads", "2"]);
    assert_eq!(json_lines(&output), by_name);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("3 pictures") && said.contains("1 (not a picture): notes.txt"), "{said}");

    let piped = |bytes: &[u8]| {
        let mut command = convoy();
        command.args(["predict", &model, "-", "--json", "--top", "3"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("convoy starts");
        child.stdin.take().expect("a pipe").write_all(bytes).expect("convoy reads");
        json_lines(&child.wait_with_output().expect("convoy ends"))
    };
    assert_eq!(piped(files.join("\n").as_bytes()), by_name, "a list of paths");
    let image = piped(&fs::read(&files[2]).expect("a picture"));
    assert_eq!((image[0]["path"].as_str(), &image[0]["predictions"]), (Some("-"), &by_name[2]["predictions"]));

    let line = text(&run(&["predict", &model, &files[1]]));
    assert!(line.starts_with(&format!("{}\t1 0.", files[1])), "{line}");
}

#[test]
fn predict_names_what_it_cannot_read_and_goes_on() {
    let job = Job::new();
    job.train("run", &["--workers", "1"]);
    let model = job.path("run/model").display().to_string();
    let files = pictures(&job);
    let broken = job.path("text.png").display().to_string();
    fs::write(&broken, "not an image").expect("the folder is writable");
    let output = run(&["predict", &model, &broken, &files[0], "missing.jpg", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let lines = json_lines(&output);
    assert!(lines[0]["error"].as_str().expect("an error").contains("not a JPEG, PNG, WebP"), "{}", lines[0]);
    assert_eq!(lines[1]["predictions"][0]["class"], "0");
    assert!(lines[2]["error"].as_str().expect("an error").contains("cannot be read"), "{}", lines[2]);
    assert_eq!(run(&["predict", &job.path("nowhere").display().to_string(), &files[0]]).status.code(), Some(3));
    assert_eq!(run(&["predict", &job.path("pictures").display().to_string(), &files[0]]).status.code(), Some(3));
}

#[test]
fn networks_are_described_by_name_spec_and_model() {
    let job = Job::new();
    job.train("run", &["--workers", "1"]);
    let by_spec = report(&run(&["describe", &job.spec().display().to_string(), "--json"]));
    let by_model = report(&run(&["describe", &job.path("run").display().to_string(), "--json"]));
    assert_eq!(by_spec, by_model);
    // 6 kernels of 3x3, 6 scales and shifts, 96 features to 3 classes.
    assert_eq!(by_spec["network"]["parameters"], 54 + 12 + 96 * 3 + 3);
    let zoo = report(&run(&["describe", "resnet50", "--input", "224x224x3", "--classes", "1000", "--json"]));
    assert_eq!(zoo["network"]["parameters"], 25_557_032, "as torchvision's");
    let table = text(&run(&["describe", "resnet18-small"]));
    assert!(table.contains("FLOPs") && table.contains("layer4.1.conv2") && table.contains("each worker"), "{table}");
    let unknown = run(&["describe", "resnet19"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("resnet18"));
}

#[test]
fn a_bench_needs_no_data() {
    let job = Job::new();
    fs::remove_dir_all(job.path("data")).expect("the folder is writable");
    let spec = job.spec().display().to_string();
    let small = ["bench", &spec, "--input", "8x8x1", "--steps", "3", "--warm-up", "1", "--threads", "2"];
    let found = report(&run(&[&small[..], &["--set", "train.batch=16", "--json"]].concat()));
    assert_eq!((&found["batch"], &found["shard"]), (&16.into(), &4.into()));
    assert_eq!((&found["steps"], &found["threads"], &found["outputs"]), (&3.into(), &2.into(), &3.into()));
    let layers = found["layers"].as_array().expect("a list");
    let names: Vec<&str> =
        layers.iter().flat_map(|layer| layer["names"].as_array().expect("a list")).filter_map(Value::as_str).collect();
    assert_eq!(names, ["layer0", "layer1", "layer2", "layer3", "layer4", "layer5", "layer6"]);
    assert!(layers.iter().all(|layer| layer["forward_ms"].as_f64() > Some(0.0)), "{found}");
    // 54 weights at 64 places, of which the samples need no gradient; 288 weights.
    assert_eq!(found["flops"], 16 * (2 * 2 * 54 * 64 + 3 * 2 * 288));
    let speed = |which: &str| found["images_per_second"][which].as_f64();
    assert!(speed("best") >= speed("median") && speed("median") > Some(0.0), "{found}");
    assert!(found["peak_gflops"].as_f64() > Some(0.0) && found["of_peak"].as_f64() > Some(0.0), "{found}");
    assert_eq!(found["peak_memory_bytes"].as_u64() > Some(1 << 20), cfg!(target_os = "linux"));

    let table = text(&run(&small));
    assert!(table.contains("images/s") && table.contains("layer6") && table.contains("optimizer"), "{table}");
    let failed = |args: &[&str], code, words: &str| {
        let output = run(&[&["bench"], args].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && error.contains(words), "{error}");
    };
    failed(&["nowhere/job.toml"], 3, "nowhere/job.toml");
    failed(&["nowhere/job"], 3, "resnet50");
    failed(&["resnet19"], 2, "resnet18");
    failed(&[&spec, "--input", "8x8x1", "--classes", "4"], 2, "layer6");
    failed(&[&spec, "--input", "8x8x1", "--set", "optimizer.lr=1e38"], 2, "lower optimizer.lr");
}

#[test]
fn data_is_checked_and_shown() {
    let job = Job::new();
    let spec = job.spec().display().to_string();
    let leaking = run(&["data", "check", &spec, "--json"]);
    assert_eq!(leaking.status.code(), Some(1), "the tiny job's validation images are training images");
    let found = &json_lines(&leaking)[0];
    assert_eq!((&found["splits"][0]["samples"], &found["splits"][1]["samples"]), (&150.into(), &40.into()));
    assert_eq!(found["leaks"].as_array().map(Vec::len), Some(40));
    let folder = job.path("classes");
    for class in ["a", "b"] {
        fs::create_dir_all(folder.join(class)).expect("the folder is writable");
        for number in 0..5 {
            let name = folder.join(class).join(format!("{number}.png"));
            let shade = if class == "a" { 10 * number } else { 200 + 10 * number };
            write_grey(name, |_, _| shade);
        }
    }
    let good = text(&run(&["data", "check", &folder.display().to_string()]));
    assert!(good.contains("nothing to worry about"), "{good}");
    fs::write(folder.join("a/broken.jpg"), b"\xff\xd8 nothing follows").expect("the folder is writable");
    let bad = run(&["data", "check", &folder.display().to_string()]);
    assert_eq!(bad.status.code(), Some(1), "there is a broken image");
    assert!(String::from_utf8_lossy(&bad.stdout).contains("a/broken.jpg"));

    let picture = job.path("preview.png");
    text(&run(&["data", "preview", &spec, "--out", &picture.display().to_string(), "--count", "6"]));
    let limits = convoy_vision::Limits { max_side: 10_000, max_pixels: 1 << 24 };
    let picture = fs::read(picture).expect("a picture");
    let picture = convoy_vision::decode(&picture, &limits).expect("a PNG file").pixels;
    assert!(picture.width > 2 * 8 && picture.height > 8);
}

#[test]
fn a_spec_printed_in_full_is_the_same_spec() {
    let job = Job::new();
    let full = text(&run(&["spec", &job.spec().display().to_string()]));
    fs::write(job.path("full.toml"), &full).expect("the folder is writable");
    assert_eq!(text(&run(&["spec", &job.path("full.toml").display().to_string()])), full);
    assert!(full.contains("momentum") && full.contains("checkpoint") && full.contains("cache_mib"), "{full}");
    assert!(text(&run(&["--version"])).starts_with("convoy "));
}
