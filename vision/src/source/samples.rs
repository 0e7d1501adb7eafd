//! Files that hold pictures with their labels: where they are, and which of them are training data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoy_common::file_tree::{FileKind, FileTree};
use convoy_common::samples::{CIFAR, Samples};
use convoy_common::spec::DataFormat;

use super::split_names::{Role, role_of, role_of_part};
use crate::error::ScanError;
use crate::left_out::{LeftOut, Why, by_name_or_kind};

/// Samples of one split in a file.
#[derive(Debug, Clone)]
pub(crate) struct SamplePart {
    pub file: PathBuf,
    /// What names say it is for.
    pub role: Option<Role>,
    pub samples: Arc<dyn Samples>,
}

impl SamplePart {
    /// How people find it.
    pub(crate) fn name(&self) -> String {
        match self.samples.split() {
            "" => self.file.display().to_string(),
            split => format!("{} in {}", split, self.file.display()),
        }
    }
}

/// Parts by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Divided {
    pub train: Vec<SamplePart>,
    pub validation: Vec<SamplePart>,
    pub left_out: LeftOut,
}

/// The format of a file that holds samples, by its name.
pub(crate) fn format_of_name(path: &Path) -> Option<DataFormat> {
    let name = path.file_name()?.to_str()?.to_lowercase();
    let is_batch = ["data_batch", "test_batch"].iter().any(|start| name.starts_with(start));
    match name.rsplit_once('.')?.1 {
        "parquet" => Some(DataFormat::Parquet),
        "npz" => Some(DataFormat::Npz),
        "bin" if is_batch || name == "train.bin" || name == "test.bin" => Some(DataFormat::Cifar),
        _ => None,
    }
}

/// The format of a file that holds samples, by its name or its first bytes.
pub(crate) fn format_of_file(tree: &dyn FileTree, path: &Path) -> Option<DataFormat> {
    let is_parquet = || tree.read_range(path, 0, 4).is_ok_and(|first| first == b"PAR1");
    format_of_name(path).or_else(|| is_parquet().then_some(DataFormat::Parquet))
}

/// The format of the samples in a folder, if it is one of such.
pub(crate) fn format_of_folder(tree: &dyn FileTree, folder: &Path) -> Result<Option<DataFormat>, ScanError> {
    Ok(files_in(tree, folder, None)?.first().and_then(|(file, _)| format_of_name(file)))
}

/// What a folder holds that is not left out: files of samples, and folders with their names.
struct SampleFolder {
    files: Vec<PathBuf>,
    folders: Vec<(PathBuf, String)>,
}

fn look_into(tree: &dyn FileTree, folder: &Path, wanted: Option<DataFormat>) -> Result<SampleFolder, ScanError> {
    let mut all = tree.entries(folder).map_err(|source| ScanError::Io { path: folder.to_owned(), source })?;
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for (path, kind) in all {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        if by_name_or_kind(&name, kind).is_some() {
            continue;
        }
        match kind {
            FileKind::Folder => folders.push((path, name)),
            _ if format_of_name(&path).is_some_and(|format| wanted.is_none_or(|wanted| format == wanted)) => {
                files.push(path);
            }
            _ => {}
        }
    }
    Ok(SampleFolder { files, folders })
}

/// Folders that may lie around files of samples.
const WRAPPERS: usize = 4;

/// The files of samples in a folder, with the roles that names tell: directly in it, or in folders with the names of
/// splits. A single folder around all of it is passed.
fn files_in(
    tree: &dyn FileTree,
    folder: &Path,
    wanted: Option<DataFormat>,
) -> Result<Vec<(PathBuf, Option<Role>)>, ScanError> {
    let mut folder = folder.to_owned();
    for _ in 0..WRAPPERS {
        let SampleFolder { files, folders } = look_into(tree, &folder, wanted)?;
        if !files.is_empty() {
            let role = |file: &PathBuf| role_of_part(file.file_stem()?.to_str()?);
            return Ok(files.into_iter().map(|file| (file.clone(), role(&file))).collect());
        }
        let mut found = Vec::new();
        for (path, role) in folders.iter().filter_map(|(path, name)| Some((path, role_of(name)?))) {
            found.extend(look_into(tree, path, wanted)?.files.into_iter().map(|file| (file, Some(role))));
        }
        match folders.as_slice() {
            _ if !found.is_empty() => return Ok(found),
            [(only, _)] => folder = only.clone(),
            _ => break,
        }
    }
    Ok(Vec::new())
}

/// All parts at `path`, a file or a folder.
///
/// # Errors
/// When there are none, or a file cannot be read.
pub(crate) fn parts(tree: &dyn FileTree, path: &Path, format: DataFormat) -> Result<Vec<SamplePart>, ScanError> {
    let files = match tree.is_folder(path) {
        true => files_in(tree, path, Some(format))?,
        false => {
            let role = path.file_stem().and_then(|stem| role_of_part(stem.to_str()?));
            vec![(path.to_owned(), role)]
        }
    };
    let mut parts = Vec::new();
    for (file, role) in files {
        let all = tree.samples(&file).map_err(|source| ScanError::Io { path: file.clone(), source })?;
        if all.is_empty() {
            let problem = "is no file of pictures with labels that is known: neither Parquet nor npz nor CIFAR's";
            return Err(ScanError::Samples { path: file, problem: problem.to_owned() });
        }
        for samples in all {
            let role = if samples.split().is_empty() { role } else { role_of_part(samples.split()) };
            // As with MNIST: there is no other part to validate on, and people do.
            let role =
                if samples.source() == CIFAR && role == Some(Role::Test) { Some(Role::Validation) } else { role };
            parts.push(SamplePart { file: file.clone(), role, samples });
        }
    }
    if parts.is_empty() {
        let problem = format!("holds no {} files", word(format));
        return Err(ScanError::Samples { path: path.to_owned(), problem });
    }
    Ok(parts)
}

/// The key's word for a format.
fn word(format: DataFormat) -> &'static str {
    match format {
        DataFormat::Npz => "npz",
        DataFormat::Cifar => "CIFAR",
        _ => "Parquet",
    }
}

/// Divides parts by their roles. Those without one are training data where none has the name of training data.
pub(crate) fn divide(parts: Vec<SamplePart>) -> Divided {
    let mut divided = Divided::default();
    let named = parts.iter().any(|part| part.role == Some(Role::Train));
    let nameless = parts.iter().any(|part| part.role.is_none());
    // Whoever names a single part means it, whatever it is called.
    if !named && !nameless {
        return Divided { train: parts, ..divided };
    }
    for part in parts {
        match part.role {
            Some(Role::Train) => divided.train.push(part),
            None if !named => divided.train.push(part),
            None => divided.left_out.add(Why::NoSplit, part.name()),
            Some(Role::Validation) => divided.validation.push(part),
            Some(Role::Test) => divided.left_out.add(Why::TestFolder, part.name()),
        }
    }
    divided
}

/// The parts to measure a model on: validation data where it is there beside training data, else all.
pub(crate) fn measured(parts: Vec<SamplePart>) -> Vec<SamplePart> {
    let Divided { train, validation, .. } = divide(parts);
    if validation.is_empty() { train } else { validation }
}

/// What is taken, in words.
pub(crate) fn source_text(parts: &[SamplePart]) -> String {
    let files: Vec<String> = parts.iter().map(SamplePart::name).collect();
    let source = parts.first().map_or("", |part| part.samples.source());
    match files.as_slice() {
        [file] => format!("{source}, {file}"),
        files => format!("{source}, {} parts, the first is {}", files.len(), files[0]),
    }
}

/// Where validation data comes from, in words; `None` where there is none.
pub(crate) fn split_text(parts: &[SamplePart], how: &str) -> Option<String> {
    let first = parts.first()?;
    let how = match first.samples.source() {
        CIFAR => "CIFAR's test data, which people validate on",
        _ => how,
    };
    let more = if parts.len() > 1 { format!(" and {} more", parts.len() - 1) } else { String::new() };
    Some(format!("validation data is {}{more}, {how}", first.name()))
}

/// For a single file with the name of training data, the parts of validation data beside it.
pub(crate) fn beside(tree: &dyn FileTree, path: &Path, format: DataFormat) -> Result<Vec<SamplePart>, ScanError> {
    let is_train = |path: &Path| path.file_stem().and_then(|stem| role_of_part(stem.to_str()?)) == Some(Role::Train);
    let Some(folder) = path.parent().filter(|_| is_train(path) && !tree.is_folder(path)) else { return Ok(Vec::new()) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut found = parts(tree, folder, format)?;
    found.retain(|part| part.role == Some(Role::Validation));
    Ok(found)
}
