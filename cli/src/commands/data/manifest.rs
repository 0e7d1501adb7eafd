//! `convoy data manifest`: every sample of a run as a table.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use convoy_common::csv_field;
use convoy_common::manifest::{Label, Manifest, Sample, Split};
use convoy_coordinator::read_manifest;

use crate::error::CliError;
use crate::out;

/// Print every sample of a run as CSV: split, number, file, position in a file of several images, label, size and
/// blake3 of the file, and why it is left out, if it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy data manifest runs/photos-1 > samples.csv\n  \
    convoy data manifest runs/photos-1 | grep -c ^training")]
pub struct ManifestArgs {
    /// The run folder.
    run: PathBuf,
}

/// Prints the table.
///
/// # Errors
/// When there is no run, its manifest is damaged, or standard output is closed.
pub fn run(args: &ManifestArgs) -> Result<ExitCode, CliError> {
    let manifest = read_manifest(&args.run)?;
    let mut stdout = BufWriter::new(std::io::stdout().lock());
    write(&manifest, &mut stdout).and_then(|()| stdout.flush()).map_err(out::failed)?;
    Ok(ExitCode::SUCCESS)
}

fn write(manifest: &Manifest, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "split,sample,file,position,label,size,blake3,left_out")?;
    for (name, split) in [("training", &manifest.train), ("validation", &manifest.validation)] {
        for (number, sample) in split.samples.iter().enumerate() {
            write_sample(manifest, name, split, (number, sample), out)?;
        }
    }
    Ok(())
}

fn write_sample(
    manifest: &Manifest,
    name: &str,
    split: &Split,
    (number, sample): (usize, Sample<'_>),
    out: &mut impl Write,
) -> std::io::Result<()> {
    let file = split.files.at(sample.file as usize);
    let (path, label) = (csv_field(file.path), label(sample.label, &manifest.names));
    let (label, reason) = (csv_field(&label), csv_field(sample.broken.unwrap_or_default()));
    writeln!(out, "{name},{number},{path},{},{label},{},{},{reason}", sample.index, file.size, file.blake3)
}

fn label(label: Label<'_>, names: &[String]) -> String {
    let name = |number: &u32| names.get(*number as usize).map_or("?", String::as_str);
    match label {
        Label::Class(class) => name(&class).to_owned(),
        Label::Set(labels) => labels.iter().map(name).collect::<Vec<_>>().join("|"),
        Label::Values(values) => values.iter().map(f32::to_string).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use convoy_common::Digest;
    use convoy_common::manifest::{FileEntry, LabelKind};

    use super::*;

    fn printed(labels: [Label<'static>; 2]) -> String {
        let mut split = Split::default();
        for (path, size) in [("a, b/\"1\".png", 7), ("c.png", 8)] {
            split.files.push(FileEntry { path, size, blake3: Digest([size as u8; 32]) });
        }
        let broken = [None, Some("is cut off")];
        for ((file, label), broken) in (0..).zip(labels).zip(broken) {
            split.samples.push(Sample { file, index: 3 * file, label, broken });
        }
        let names = vec!["cat".to_owned(), "dog".to_owned()];
        let (labels, train) = (LabelKind::Class, split.into());
        let mut out = Vec::new();
        write(&Manifest { names, labels, train, validation: Default::default() }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_sample_is_a_row_of_a_table() {
        let text = printed([Label::Class(1), Label::Class(0)]);
        let (seven, eight) = ("07".repeat(32), "08".repeat(32));
        let expected = format!(
            "split,sample,file,position,label,size,blake3,left_out\n\
             training,0,\"a, b/\"\"1\"\".png\",0,dog,7,{seven},\n\
             training,1,c.png,3,cat,8,{eight},is cut off\n"
        );
        assert_eq!(text, expected);
        assert!(printed([Label::Set(&[0, 1]), Label::Set(&[])]).contains(",0,cat|dog,7,"));
        assert!(printed([Label::Values(&[0.5, 2.0]), Label::Values(&[])]).contains(",0,0.5 2,7,"));
    }
}
