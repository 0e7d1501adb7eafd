//! What is chosen for a folder of images and no spec.

use convoy_common::spec::{Channels, ClassWeights, LossKind, OptimizerKind, Resize, ScheduleKind, Size};
use convoy_planning::Job;
use expect_test::{Expect, expect};

use crate::fixture::{folder, silent};

/// Plans the folder `photos` in `dir` and compares the reasons that are given.
fn check(dir: &tempfile::TempDir, overrides: &[&str], reasons: &Expect) -> Job {
    let overrides: Vec<String> = overrides.iter().map(|given| (*given).to_owned()).collect();
    let (job, said) = Job::here(&dir.path().join("photos"), &overrides, &silent()).unwrap();
    reasons.assert_eq(&said.expect("choices have reasons"));
    job
}

#[test]
fn small_images_of_one_size_stay_as_they_are() {
    let job = check(
        &folder(&[6, 6], |_| (8, 8)),
        &[],
        &expect![[r#"
            chosen from the data (all of it in the run folder's spec.toml):
              augment.crop_padding=2                       all images are 8x8; they stay so
              network.name="simple-cnn"                    small images
              train.batch=8, train.shard=8                 10 training samples make 2 steps an epoch
              train.epochs=60                              about 600 samples seen in all"#]],
    );
    let spec = &job.plan.spec;
    assert_eq!((spec.name.as_str(), spec.network.zoo_name()), ("photos", "simple-cnn"));
    assert_eq!((job.plan.input.height, spec.train.epochs), (8, 60));
}

#[test]
fn photographs_are_cut_and_flipped() {
    let job = check(
        &folder(&[3, 3], |number| (100 + number, 120)),
        &["network.name=lenet5", "train.epochs=1"],
        &expect![[r#"
            chosen from the data (all of it in the run folder's spec.toml):
              prepare.size=96                              the median image is 102x120
              augment.random_resized_crop=[0.35, 1.0], augment.horizontal_flip=0.5 photographs of different sizes
              network.name="resnet18"                      larger images
              train.batch=8, train.shard=8                 4 training samples make 1 steps an epoch
              train.epochs=60                              about 240 samples seen in all"#]],
    );
    let spec = &job.plan.spec;
    assert_eq!((spec.prepare.size, spec.prepare.channels), (Size::Fixed([96, 96]), Channels::Fixed(1)));
    assert_eq!((spec.network.zoo_name(), spec.train.epochs), ("lenet5", 1), "what is given wins over what is chosen");
}

#[test]
fn a_rare_class_weighs_more() {
    let job = check(
        &folder(&[20, 2], |_| (8, 8)),
        &[],
        &expect![[r#"
            chosen from the data (all of it in the run folder's spec.toml):
              augment.crop_padding=2                       all images are 8x8; they stay so
              network.name="simple-cnn"                    small images
              train.batch=8, train.shard=8                 18 training samples make 3 steps an epoch
              train.epochs=60                              about 1080 samples seen in all
              loss.class_weights="balanced"                the largest class has 16 samples, the smallest 2"#]],
    );
    // Samples / (classes * samples of the class).
    assert_eq!(job.plan.spec.loss.class_weights, Some(ClassWeights::Given(vec![18.0 / 32.0, 18.0 / 4.0])));
}

#[test]
fn a_folder_whose_name_is_no_bare_word_gives_the_job_its_name() {
    let dir = folder(&[3, 3], |_| (8, 8));
    let path = dir.path().join("my \"best\" photos");
    std::fs::rename(dir.path().join("photos"), &path).unwrap();
    let (job, _) = Job::here(&path, &[], &silent()).unwrap();
    assert_eq!(job.plan.spec.name, "my \"best\" photos");
    assert_eq!(std::path::Path::new(&job.plan.spec.data.train), path);
}

#[test]
fn pictures_with_numbers_are_seen_whole() {
    let choose = |size: (u32, u32)| {
        let dir = folder(&[12], |_| size);
        let table: String = (0..12).map(|number| format!("a/{number}.png,{}\n", 1000 * number)).collect();
        let path = dir.path().join("photos/data.csv");
        std::fs::write(&path, format!("path,count\n{table}")).unwrap();
        Job::here(&path, &["network.name=lenet5".to_owned()], &silent()).unwrap()
    };
    let (job, said) = choose((200, 120));
    let spec = &job.plan.spec;
    assert_eq!((spec.prepare.size, spec.prepare.resize), (Size::Fixed([96, 160]), Resize::Letterbox));
    assert_eq!((spec.augment.random_resized_crop, spec.augment.horizontal_flip), (None, 0.5));
    let said = said.expect("choices have reasons");
    let rules = ["nothing is cropped", "\"simple-cnn-photo\"", "optimizer.kind=\"adamw\", optimizer.lr=0.002"];
    assert!(rules.iter().all(|rule| said.contains(rule)), "{said}");
    assert_eq!((spec.optimizer.kind, spec.schedule.kind), (OptimizerKind::Adamw, ScheduleKind::OneCycle));
    assert_eq!(spec.loss.kind, Some(LossKind::Mae));
    assert_eq!(choose((120, 500)).0.plan.spec.prepare.size, Size::Fixed([192, 96]), "twice as long at most");
    let (job, _) = choose((32, 32));
    assert_eq!((job.plan.spec.augment.crop_padding, job.plan.input.height), (0, 32));
    assert_eq!(job.plan.spec.augment.horizontal_flip, 0.5, "also where pictures are small");
    assert_eq!(job.plan.target_scale(), job.plan.targets.as_ref());
}
