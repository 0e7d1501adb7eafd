//! Archives as samples, in the way of WebDataset: files with one name but for what follows its first point are one
//! sample. Where nothing in an archive could be a label, folders in it are classes, or the archives themselves are.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use convoy_common::file_tree::{ArchiveKind, Contents, FileKind, FileTree, Member, PassedOver};
use convoy_common::spec::{Data, Task};

use super::archives::bare_name;
use super::folders;
use super::listed::{Listed, ListedImage, Read};
use super::member_tree::MemberTree;
use super::raw_label::RawLabel;
use super::sample::{Sample, split_name};
use super::sample_labels::{self, VALUES};
use super::samples;
use super::task::{self, Column, DEFAULT_SEPARATOR, Meaning};
use crate::error::ScanError;
use crate::formats::is_picture_name;
use crate::left_out::{LeftOut, Why, by_name_or_kind};
use crate::threads::in_order;

/// The part that holds a class.
const CLASS: &str = "cls";

/// What decides how labels are read: training data, or a trained model.
#[derive(Clone, Copy)]
pub(crate) enum Like<'a> {
    /// Nothing is known yet.
    Itself,
    /// As training data was read.
    Train(&'a Listed),
    /// By the classes of a trained model.
    Names(&'a [String]),
}

/// An archive with what lies in it.
struct Shard {
    path: PathBuf,
    contents: Contents,
}

/// The samples of `archives`, of which there is at least one, in byte order of their paths; and those of validation
/// data that lies in a folder beside training data in one archive.
pub(crate) fn list(
    tree: &dyn FileTree,
    archives: &[PathBuf],
    data: &Data,
    task: Task,
    like: Like<'_>,
) -> Result<(Listed, Option<Listed>), ScanError> {
    let asked = match like {
        Like::Train(Listed { read: Some(read), .. }) => read.columns.clone(),
        Like::Train(_) => Vec::new(),
        _ if !data.label_columns.is_empty() => data.label_columns.clone(),
        _ => default_columns(tree, archives)?,
    };
    let (mut listed, mut validation) = match asked.is_empty() {
        true => unlabelled(tree, archives, like)?,
        false => (labelled(tree, archives, data, task, asked, like)?, None),
    };
    std::iter::once(&mut listed).chain(&mut validation).for_each(|listed| listed.archives = archives.to_vec());
    Ok((listed, validation))
}

/// Samples without labels of their own: classes are folders, or the archives.
fn unlabelled(
    tree: &dyn FileTree,
    archives: &[PathBuf],
    like: Like<'_>,
) -> Result<(Listed, Option<Listed>), ScanError> {
    let (mut shards, mut damaged) = (Vec::new(), Vec::new());
    for opened in in_order(archives.len(), |at| open(tree, &archives[at])) {
        match opened {
            Ok(shard) => shards.push(shard),
            Err(error) => damaged.push(error),
        }
    }
    let (mut listed, validation) = match &shards[..] {
        [] => return Err(damaged.swap_remove(0)),
        [only] => in_class_folders(tree, only, like)?,
        shards => (in_folders_of_all(shards)?, None),
    };
    shards.iter().for_each(|shard| take_passed_over(shard, &mut listed));
    listed.problems.extend(damaged.iter().map(ToString::to_string));
    Ok((listed, validation))
}

fn open(tree: &dyn FileTree, path: &Path) -> Result<Shard, ScanError> {
    let contents = tree.contents(path).map_err(|source| ScanError::Io { path: path.to_owned(), source })?;
    let contents = contents.filter(|contents| contents.kind == ArchiveKind::Tar);
    let contents = contents.ok_or_else(|| ScanError::NoArchive { path: path.to_owned() })?;
    let names = || contents.members.iter().map(|member| Path::new(&member.name));
    let table = names().find(|name| samples::format_of_name(name).is_some());
    match table.filter(|_| !names().any(is_picture_name)) {
        Some(name) => Err(ScanError::Samples {
            path: path.to_owned(),
            problem: format!("holds {}, which is read from a folder: unpack it", name.display()),
        }),
        None => Ok(Shard { path: path.to_owned(), contents }),
    }
}

/// Takes over what is in an archive but no member.
fn take_passed_over(shard: &Shard, listed: &mut Listed) {
    let archive = file_name(&shard.path);
    for (name, why) in &shard.contents.passed_over {
        let why = match why {
            PassedOver::Link => Why::Link,
            PassedOver::NoFile => Why::NoFile,
            PassedOver::Elsewhere => Why::Elsewhere,
            PassedOver::NoName => Why::NotUtf8,
            PassedOver::Sparse => Why::Sparse,
            PassedOver::Replaced => Why::Replaced,
            PassedOver::NoEnd => {
                listed.warnings.push(format!("{archive} ends without an end mark: it may be cut"));
                continue;
            }
            PassedOver::AfterEnd => {
                let text =
                    "holds more behind its end mark, which is left out; unpack and pack archives that were joined";
                listed.warnings.push(format!("{archive} {text}"));
                continue;
            }
        };
        listed.left_out.add(why, format!("{archive}/{name}"));
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Class folders inside one archive, by the rules for class folders.
fn in_class_folders(
    files: &dyn FileTree,
    shard: &Shard,
    like: Like<'_>,
) -> Result<(Listed, Option<Listed>), ScanError> {
    let known = match like {
        Like::Itself => Vec::new(),
        Like::Train(train) => train.classes(),
        Like::Names(names) => names.to_vec(),
    };
    let tree = MemberTree::new(files, &shard.path, &shard.contents.members);
    let splits = folders::splits(&tree, &shard.path)?;
    let mut train = folders::list(&tree, &splits.train, &known)?;
    let mut validation = None;
    if splits.beside.as_ref() == Some(&splits.folder) {
        let tests = folders::tests_in(&tree, &splits.folder)?;
        tests.into_iter().for_each(|name| train.left_out.add(Why::TestFolder, name));
        let known = if known.is_empty() { train.classes() } else { known };
        let list = |folder: PathBuf| folders::list(&tree, &folder, &known);
        validation = folders::validation_in(&tree, &splits.folder)?.map(list).transpose()?;
    }
    Ok((train, validation))
}

/// Pictures of several archives, whose folders are the classes; or the archives are, where pictures lie in no folder.
fn in_folders_of_all(shards: &[Shard]) -> Result<Listed, ScanError> {
    let paths: Vec<PathBuf> = shards.iter().map(|shard| shard.path.clone()).collect();
    let (root, mut left_out) = (root_of(&paths), LeftOut::default());
    let mut pictures: Vec<(&Shard, Vec<&str>)> = Vec::new();
    for shard in shards {
        for member in visible(shard, &root, &mut left_out) {
            match is_picture_name(Path::new(&member.name)) {
                true => pictures.push((shard, member.name.split('/').collect())),
                false => left_out.add(Why::NoPicture, path_in(&root, &shard.path, &member.name)),
            }
        }
    }
    // Folders that lie around everything tell nothing.
    let around = |depth: usize| {
        let mut names = pictures.iter().map(|(_, parts)| (parts.len() > depth + 1).then(|| parts[depth]));
        let first = names.next().flatten();
        first.is_some() && names.all(|name| name == first) && pictures.iter().all(|(_, parts)| parts.len() > depth + 2)
    };
    let skipped = (0..).take_while(|depth| around(*depth)).count();
    let flat = pictures.iter().all(|(_, parts)| parts.len() == skipped + 1);
    let entries = pictures.iter().map(|(shard, parts)| {
        let class = match flat {
            true => bare_name(&shard.path).unwrap_or_default(),
            false if parts.len() > skipped + 1 => parts[skipped],
            false => return Err(path_in(&root, &shard.path, &parts.join("/"))),
        };
        let path = path_in(&root, &shard.path, &parts.join("/"));
        Ok(ListedImage { path, label: RawLabel::Class(class.to_owned()), line: None })
    });
    let entries: Result<Vec<_>, String> = entries.collect();
    let entries = entries.map_err(|first| ScanError::NoLabels { path: root.clone(), first })?;
    if entries.is_empty() {
        return Err(ScanError::NoSamples { path: root, held: left_out.lines().join("; ") });
    }
    Ok(listed(root, Meaning::Class, None, entries, left_out))
}

/// The label columns where the spec names none: what lies beside a picture in the first archive where a label does;
/// none where no archive has one.
fn default_columns(tree: &dyn FileTree, archives: &[PathBuf]) -> Result<Vec<String>, ScanError> {
    // What cannot be opened is named when all are.
    for Shard { path, contents } in archives.iter().filter_map(|path| open(tree, path).ok()) {
        let pictures = contents.members.iter().filter(|member| is_picture_name(Path::new(&member.name)));
        let keys: HashSet<&str> = pictures.map(|member| split_name(&member.name).0).collect();
        let beside = |wanted: &str| {
            contents.members.iter().find(|member| {
                let (key, part) = split_name(&member.name);
                part == wanted && keys.contains(key)
            })
        };
        if beside(CLASS).is_some() {
            return Ok(vec![CLASS.to_owned()]);
        }
        if let Some(values) = beside(VALUES) {
            let problem = |problem| format!("{}: {problem}", path.join(&values.name).display());
            return sample_labels::keys(tree, &path, values)
                .map_err(|text| ScanError::Problems { path: path.clone(), problems: vec![problem(text)] });
        }
    }
    Ok(Vec::new())
}

/// The members that no system left behind.
fn visible<'a>(shard: &'a Shard, root: &Path, left_out: &mut LeftOut) -> Vec<&'a Member> {
    let is_visible = |member: &&Member| {
        let why = member.name.split('/').find_map(|part| by_name_or_kind(part, FileKind::File));
        why.map(|why| left_out.add(why, path_in(root, &shard.path, &member.name))).is_none()
    };
    shard.contents.members.iter().filter(is_visible).collect()
}

/// The samples of an archive in byte order of their keys.
fn samples_of<'a>(shard: &'a Shard, root: &Path, left_out: &mut LeftOut) -> Vec<Sample<'a>> {
    let mut samples: BTreeMap<&str, Vec<(&str, &Member)>> = BTreeMap::new();
    for member in visible(shard, root, left_out) {
        let (key, part) = split_name(&member.name);
        samples.entry(key).or_default().push((part, member));
    }
    samples.into_iter().map(|(key, parts)| Sample { key: shard.path.join(key), parts }).collect()
}

/// What one archive has of samples with labels.
struct Rows {
    /// The archive without its members.
    shard: Shard,
    paths: Vec<String>,
    /// The labels of each path, one after the other.
    fields: Vec<String>,
    left_out: LeftOut,
    problems: Vec<String>,
}

/// The samples of the archive at `path` with their fields under the columns `names`.
fn rows_of(
    tree: &dyn FileTree,
    path: &Path,
    root: &Path,
    names: &[String],
    separator: &str,
) -> Result<Rows, ScanError> {
    let shard = open(tree, path)?;
    let (mut left_out, mut problems) = (LeftOut::default(), Vec::new());
    let (mut paths, mut fields) = (Vec::new(), Vec::new());
    for sample in samples_of(&shard, root, &mut left_out) {
        let shown = || text(sample.key.strip_prefix(root).unwrap_or(&sample.key));
        let picture = match sample.picture() {
            Ok(Some(picture)) => path_in(root, &shard.path, &picture.name),
            Ok(None) => {
                left_out.add(Why::NoPicture, shown());
                continue;
            }
            Err(problem) => {
                problems.push(format!("{}: {problem}", shown()));
                continue;
            }
        };
        match sample_labels::fields(tree, &shard.path, &sample, names, separator) {
            Ok(Some(found)) => {
                paths.push(picture);
                fields.extend(found);
            }
            Ok(None) => left_out.add(Why::NoLabel, picture),
            Err(problem) => problems.push(format!("{}: {problem}", shown())),
        }
    }
    let contents = Contents { members: Vec::new(), ..shard.contents };
    Ok(Rows { shard: Shard { contents, ..shard }, paths, fields, left_out, problems })
}

/// Samples whose labels are members of their own, or stand in one.
fn labelled(
    tree: &dyn FileTree,
    archives: &[PathBuf],
    data: &Data,
    task: Task,
    names: Vec<String>,
    like: Like<'_>,
) -> Result<Listed, ScanError> {
    let root = root_of(archives);
    let separator = data.label_separator.as_deref().unwrap_or(DEFAULT_SEPARATOR);
    let (mut left_out, mut problems) = (LeftOut::default(), Vec::new());
    let (mut paths, mut rows, mut shards, mut damaged) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for found in in_order(archives.len(), |at| rows_of(tree, &archives[at], &root, &names, separator)) {
        match found {
            Ok(found) => {
                paths.extend(found.paths);
                rows.extend(found.fields);
                left_out.0.extend(found.left_out.0);
                problems.extend(found.problems);
                shards.push(found.shard);
            }
            Err(error) => damaged.push(error),
        }
    }
    if shards.is_empty() {
        return Err(damaged.swap_remove(0));
    }
    if rows.is_empty() && problems.is_empty() {
        return Err(ScanError::NoSamples { path: root, held: left_out.lines().join("; ") });
    }
    if rows.is_empty() {
        return Err(ScanError::Problems { path: root, problems });
    }
    let (meaning, why) = meaning_of(&names, &paths, &rows, task, data, like)
        .map_err(|problem| ScanError::Problems { path: root.clone(), problems: vec![problem] })?;
    let mut entries = Vec::with_capacity(paths.len());
    for (path, fields) in paths.into_iter().zip(rows.chunks(names.len())) {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        match meaning.label(&names, &fields, separator) {
            Ok(label) => entries.push(ListedImage { path, label, line: None }),
            Err(problem) => problems.push(format!("{path}: {problem}")),
        }
    }
    let read = Read { meaning, columns: names, why };
    let mut listed = Listed { problems, ..listed(root, meaning, Some(read), entries, left_out) };
    if meaning == Meaning::Class {
        pad_numbers(&mut listed, like);
    }
    shards.iter().for_each(|shard| take_passed_over(shard, &mut listed));
    listed.problems.extend(damaged.iter().map(ToString::to_string));
    Ok(listed)
}

/// What the columns called `names` mean, with the reason.
fn meaning_of(
    names: &[String],
    paths: &[String],
    fields: &[String],
    task: Task,
    data: &Data,
    like: Like<'_>,
) -> Result<(Meaning, String), String> {
    if let Like::Train(Listed { read: Some(read), .. }) = like {
        return Ok((read.meaning, String::new()));
    }
    if names == [CLASS] && task == Task::Auto {
        return Ok((Meaning::Class, "`.cls` members hold classes; for numbers set task = \"regression\"".to_owned()));
    }
    let column = |(at, name): (usize, _)| {
        let fields = fields.iter().skip(at).step_by(names.len()).map(String::as_str);
        Column { name, fields: (0..).zip(fields).collect() }
    };
    let columns: Vec<Column<'_>> = names.iter().map(String::as_str).enumerate().map(column).collect();
    let decision = task::decide(task, &columns, data.label_separator.as_deref());
    let decision = decision.map_err(|(row, problem)| match row.and_then(|row| paths.get(row as usize)) {
        Some(path) => format!("{path}: {problem}"),
        None => problem,
    })?;
    if matches!(decision.meaning, Meaning::Class | Meaning::Set) && names.len() != 1 {
        let quoted = super::table::quoted(names);
        return Err(format!("values {quoted}: name the one that holds the label with data.label_columns"));
    }
    Ok((decision.meaning, decision.why))
}

/// Gives classes that are numbers zeros in front, so that their byte order is that of the numbers.
fn pad_numbers(listed: &mut Listed, like: Like<'_>) {
    let is_number = |class: &str| !class.is_empty() && class.bytes().all(|byte| byte.is_ascii_digit());
    let given = match like {
        Like::Itself => listed.classes(),
        Like::Train(train) => train.classes(),
        Like::Names(names) => names.to_vec(),
    };
    if !given.iter().all(|class| is_number(class)) {
        return;
    }
    let width = given.iter().map(String::len).max().unwrap_or(0);
    for entry in &mut listed.entries {
        if let RawLabel::Class(class) = &mut entry.label
            && is_number(class)
        {
            *class = format!("{class:0>width$}");
        }
    }
}

/// The innermost folder that holds all archives.
fn root_of(archives: &[PathBuf]) -> PathBuf {
    let mut root = archives[0].parent().unwrap_or(Path::new("")).to_owned();
    while !archives.iter().all(|path| path.starts_with(&root)) && root.pop() {}
    root
}

/// The path of a member as it follows `root`.
fn path_in(root: &Path, archive: &Path, name: &str) -> String {
    format!("{}/{name}", text(archive.strip_prefix(root).unwrap_or(archive)))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn listed(
    root: PathBuf,
    meaning: Meaning,
    read: Option<Read>,
    mut entries: Vec<ListedImage>,
    left_out: LeftOut,
) -> Listed {
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let named = read.as_ref().filter(|_| matches!(meaning, Meaning::Values | Meaning::Indicators));
    Listed {
        absolute: false,
        origin: root.clone(),
        root,
        labels: meaning.kind(),
        targets: named.map_or_else(Vec::new, |read| read.columns.clone()),
        entries,
        read,
        problems: Vec::new(),
        left_out,
        warnings: Vec::new(),
        lists: Vec::new(),
        empty: Vec::new(),
        archives: Vec::new(),
    }
}
