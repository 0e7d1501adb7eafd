//! That training learns, from every kind of source and in every way the spec offers.

use std::fs;
use std::path::{Path, PathBuf};

use convoy_vision::Pixels;

use crate::job::{Job, convoy, report, write_grey};

/// JPEG files in class folders: 42 for training, 14 for validation.
fn photographs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/data/jpeg")
}

fn example(name: &str) -> String {
    format!("{}/../examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_optimizer_and_schedule_learns_and_depends_on_nothing_else() {
    let job = Job::new();
    let ways: [&[&str]; 5] = [
        &["optimizer.nesterov=true", "schedule.kind=\"cosine\"", "schedule.warmup_epochs=1"],
        &["optimizer.clip_norm=0.5", "schedule.kind=\"step\"", "schedule.every_epochs=1"],
        &["optimizer={kind=\"adam\", lr=0.01}", "schedule.kind=\"constant\"", "loss.label_smoothing=0.1"],
        &["optimizer={kind=\"adamw\", lr=0.01, weight_decay=0.1}", "schedule.kind=\"one_cycle\""],
        &["optimizer={kind=\"adamw\", lr=0.01, clip_norm=1.0}", "loss.class_weights=\"balanced\""],
    ];
    for (number, settings) in ways.iter().enumerate() {
        let set: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let train = |name: &str, workers: &str| job.train(name, &[&["--workers", workers], &set[..]].concat());
        let one = train(&format!("{number}-1"), "1");
        let three = train(&format!("{number}-3"), "3");
        assert_eq!(one["parameters_digest"], three["parameters_digest"], "{settings:?}");
        assert_eq!(one["validation"], three["validation"], "{settings:?}");
        let top1 = one["validation"]["top1"].as_f64().expect("a number");
        assert!(top1 > 0.5, "{settings:?}: {top1}; a third would be chance");
    }
}

#[test]
fn a_model_is_gone_on_from_with_a_new_head() {
    let job = Job::new();
    job.train("first", &["--workers", "1"]);
    let init = format!("network.init={:?}", job.path("first/model/model.safetensors").display().to_string());
    let frozen = ["--set", &init, "--set", "network.freeze_epochs=3"];
    let second = job.train("second", &frozen);
    let shared = job.train("shared", &[&frozen[..], &["--workers", "3"]].concat());
    assert_eq!(second["parameters_digest"], shared["parameters_digest"]);
    assert!(second["validation"]["top1"].as_f64().expect("a number") > 0.5);
    let read = |run: &str| {
        let path = job.path(run).join("model/model.safetensors");
        let bytes = fs::read(path).expect("a model");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
        let range = |name: &str| {
            let at = |i: usize| header[name]["data_offsets"][i].as_u64().expect("an offset") as usize + 8 + length;
            bytes[at(0)..at(1)].to_vec()
        };
        let mut names: Vec<String> = header.as_object().expect("tensors").keys().cloned().collect();
        names.retain(|name| name != "__metadata__" && header[name]["dtype"] == "F32");
        names.into_iter().map(|name| (name.clone(), range(&name))).collect::<Vec<_>>()
    };
    let (first, second) = (read("first"), read("second"));
    assert_eq!(first.len(), second.len());
    let changed = first.iter().zip(&second).filter(|(a, b)| a != b).map(|((name, _), _)| name.as_str());
    let changed: Vec<&str> = changed.collect();
    assert!(changed.len() == 2, "only the head has learned: {changed:?}");
}

#[test]
fn photographs_with_the_example_spec() {
    let job = Job::new();
    let data = format!("data.train={:?}", photographs().display().to_string());
    let run = |name: &str, workers: &str| {
        let mut command = convoy();
        command.args(["train", &example("photos.toml"), "--json", "--workers", workers, "--out"]);
        command.arg(job.path(name)).args(["--set", &data, "--set", "prepare.size=32", "--set", "train.epochs=1"]);
        command.args(["--set", "schedule.warmup_epochs=0.5"]);
        report(&command.output().expect("convoy starts"))
    };
    let (one, two) = (run("one", "1"), run("two", "2"));
    assert_eq!(one["parameters_digest"], two["parameters_digest"]);
    assert_eq!(one["steps"], 2, "42 photographs in batches of 32");
}

#[test]
fn a_folder_without_a_spec() {
    let job = Job::new();
    let photographs = photographs();
    let out = job.path("run");
    let small = ["--set", "prepare.size=32", "--set", "train.epochs=1", "--set", "network.name=lenet5"];
    let output =
        convoy().arg("train").arg(&photographs).arg("--out").arg(&out).args(small).output().expect("convoy starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("chosen from the data") && stdout.contains("the median image is"), "{stdout}");
    let spec = fs::read_to_string(out.join("spec.toml")).expect("the spec is in the run folder");
    assert!(spec.contains("random_resized_crop") && spec.contains("lenet5"), "{spec}");
    let predicted =
        convoy().arg("predict").arg(&out).arg(photographs.join("val/rings")).output().expect("convoy starts");
    assert_eq!(String::from_utf8_lossy(&predicted.stdout).lines().count(), 5);
}

#[test]
fn numbers_from_a_table() {
    let job = Job::new();
    let folder = job.path("table");
    fs::create_dir_all(&folder).expect("the folder is writable");
    let mut table = String::from("image,width,height\n");
    for number in 0..60u32 {
        let (width, height) = (1 + number % 7, 1 + number / 7 % 5);
        let path = format!("{number}.png");
        write_grey(folder.join(&path), |x, y| if x < width && y < height { 255 } else { 0 });
        table.push_str(&format!("{path},{width},{height}\n"));
    }
    fs::write(folder.join("data.csv"), table).expect("the folder is writable");
    fs::write(
        job.path("table.toml"),
        "[data]\ntrain = \"table/data.csv\"\npath_column = \"image\"\n[network]\nlayers = [\n{ type = \"flatten\" },\n\
         { type = \"linear\", out = 16 },\n{ type = \"relu\" },\n{ type = \"linear\", out = 2 },\n]\n\
         [optimizer]\nkind = \"adam\"\nlr = 0.02\n[train]\nepochs = 20\nbatch = 16\nshard = 8\n",
    )
    .expect("the folder is writable");
    let train = |workers: &str| {
        let mut command = convoy();
        command.arg("train").arg(job.path("table.toml")).args(["--json", "--workers", workers, "--out"]);
        report(&command.arg(job.path(&format!("run-{workers}"))).output().expect("convoy starts"))
    };
    let (one, two) = (train("1"), train("2"));
    assert_eq!(one["parameters_digest"], two["parameters_digest"]);
    let validation = &one["validation"];
    let (mae, r2) = (validation["mae"].as_f64().expect("a number"), validation["r2"].as_f64().expect("a number"));
    assert!(mae < 1.0 && r2 > 0.5 && validation["mae/width"].is_f64(), "{validation}");
    let predicted = convoy().arg("predict").arg(job.path("run-1")).arg(folder.join("0.png")).arg("--json").output();
    let line: serde_json::Value = report(&predicted.expect("convoy starts"));
    assert!((line["values"]["width"].as_f64().expect("a value") - 1.0).abs() < 2.5, "{line}");
    let evaluated = convoy().arg("eval").arg(job.path("run-1")).arg("--json").output().expect("convoy starts");
    assert_eq!(&report(&evaluated)["metrics"], validation, "the model's file has the weights that were evaluated");
}

#[test]
fn counts_and_prices_without_a_spec() {
    let job = Job::new();
    let folder = job.path("table");
    fs::create_dir_all(&folder).expect("the folder is writable");
    let mut table = String::from("path,\"count, all\",price\n");
    for number in 0..120u32 {
        let dots = number * 37 % 59;
        let path = format!("{number}.png");
        write_grey(folder.join(&path), |x, y| if (x + 8 * y) * 29 % 64 < dots { 255 } else { 0 });
        table.push_str(&format!("{path},{},{}\n", 6 * dots, 100_000 + 700 * dots));
    }
    fs::write(folder.join("data.csv"), table).expect("the folder is writable");
    let mut command = convoy();
    command.arg("train").arg(folder.join("data.csv")).args(["--json", "--set", "train.epochs=20"]);
    let ended = report(&command.arg("--out").arg(job.path("run")).output().expect("convoy starts"));
    let validation = &ended["validation"];
    for target in ["count, all", "price"] {
        let metric = |name: &str| validation[format!("{name}/{target}")].as_f64().expect("a number");
        assert!(metric("mae") < 0.4 * metric("mae_of_mean") && metric("r2") > 0.7, "{validation}");
    }
    let header = fs::read_to_string(job.path("run/metrics.csv")).expect("metrics");
    assert!(header.contains(",\"mae/count, all\",mae/price,"), "{header}");
}

#[test]
fn larger_pictures_with_counts_and_prices_without_a_spec() {
    const SIDE: u32 = 96;
    let job = Job::new();
    let folder = job.path("table");
    fs::create_dir_all(&folder).expect("the folder is writable");
    let mut table = String::from("path,count,price\n");
    for number in 0..120u32 {
        // Squares on some of 8 x 8 places, brighter than a ground that differs from picture to picture.
        let (squares, ground) = (number * 37 % 59, 40 + number * 53 % 90);
        let bright = |x: u32, y: u32| x % 12 < 6 && y % 12 < 6 && (x / 12 + 8 * (y / 12)) * 29 % 64 < squares;
        let value = |at: u32| (ground + if bright(at % SIDE, at / SIDE) { 60 } else { 0 }) as u8;
        let pixels = Pixels::new(SIDE, SIDE, 1, (0..SIDE * SIDE).map(value).collect());
        let path = format!("{number}.png");
        fs::write(folder.join(&path), pixels.to_png()).expect("the folder is writable");
        table.push_str(&format!("{path},{},{}\n", 6 * squares, 100_000 + 700 * squares + 400 * ground));
    }
    fs::write(folder.join("data.csv"), table).expect("the folder is writable");
    let mut command = convoy();
    command.arg("train").arg(folder.join("data.csv")).args(["--json", "--set", "train.epochs=25"]);
    let ended = report(&command.arg("--out").arg(job.path("run")).output().expect("convoy starts"));
    let spec = fs::read_to_string(job.path("run/spec.toml")).expect("the spec is in the run folder");
    assert!(spec.contains("simple-cnn-photo"), "{spec}");
    let validation = &ended["validation"];
    for target in ["count", "price"] {
        let metric = |name: &str| validation[format!("{name}/{target}")].as_f64().expect("a number");
        assert!(metric("mae") < 0.3 * metric("mae_of_mean") && metric("r2") > 0.8, "{validation}");
    }
}
