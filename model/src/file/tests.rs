use super::*;

/// A small file: its tensors, metadata and bytes.
fn sample() -> (TensorFile, Vec<u8>) {
    let tensor = |name: &str, shape: &[usize]| {
        let count: usize = shape.iter().product();
        NamedTensor { name: name.into(), shape: shape.to_vec(), data: (0..count).map(|i| 0.3 - i as f32).collect() }
    };
    let tensors = vec![tensor("fc.weight", &[2, 3]), tensor("fc.bias", &[2]), tensor("step", &[])];
    let metadata = BTreeMap::from([("step".to_owned(), "18".to_owned()), ("note".to_owned(), "é\n\"x\"".to_owned())]);
    let file = TensorFile { tensors, metadata };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let views: Vec<_> = file.tensors.iter().map(NamedTensor::view).collect();
    write_atomic(&path, &views, &file.metadata).unwrap();
    assert_eq!(TensorFile::read(&path).unwrap(), file);
    assert_eq!(TensorFile::read_foreign(&path).unwrap(), file);
    let bytes = std::fs::read(&path).unwrap();
    (file, bytes)
}

fn parse_bytes(bytes: &[u8], origin: Origin) -> Result<TensorFile, ReadError> {
    parse(Path::new("a.safetensors"), bytes, bytes.len() as u64, origin)
}

#[test]
fn others_read_our_files() {
    let (file, bytes) = sample();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), file.tensors.len());
    let weight = theirs.tensor("fc.weight").unwrap();
    assert_eq!((weight.shape(), weight.data()[0..4].to_vec()), (&[2, 3][..], 0.3f32.to_le_bytes().to_vec()));
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
    assert_eq!(bytes, sample().1, "the same content gives the same bytes");
}

#[test]
fn no_changed_byte_changes_the_content_unseen() {
    let (file, bytes) = sample();
    let mut harmless = 0;
    for position in 0..bytes.len() {
        for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut changed = bytes.clone();
            changed[position] ^= flip;
            match parse_bytes(&changed, Origin::Convoy) {
                Ok(read) => {
                    assert_eq!(read, file, "byte {position} ^ {flip}");
                    harmless += 1;
                }
                Err(error) => assert!(error.to_string().contains("a.safetensors"), "{error}"),
            }
        }
    }
    assert!(harmless < 40, "{harmless} changes went unseen, where only spaces may");
}

#[test]
fn no_truncation_goes_unseen() {
    let (_, bytes) = sample();
    for length in 0..bytes.len() {
        for origin in [Origin::Convoy, Origin::Foreign] {
            let error = parse_bytes(&bytes[..length], origin).unwrap_err().to_string();
            assert!(error.contains("a.safetensors") && error.contains("copy"), "{error}");
        }
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(parse_bytes(&longer, Origin::Convoy).is_err());
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let (_, bytes) = sample();
    for length in 0..bytes.len() {
        assert!(parse(Path::new("a"), &bytes[..length], bytes.len() as u64, Origin::Convoy).is_err());
    }
}

/// A foreign file with this header and so many zero bytes of data.
fn foreign(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn foreign_types() {
    let header = r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},
        "bn.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[4,12]},
        "b":{"dtype":"BF16","shape":[1],"data_offsets":[12,14]}}"#;
    let file = parse_bytes(&foreign(header, 14), Origin::Foreign).unwrap();
    let names: Vec<_> = file.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(matches!(parse_bytes(&foreign(header, 14), Origin::Convoy), Err(ReadError::Type { .. })));

    let integers = r#"{"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}"#;
    let error = parse_bytes(&foreign(integers, 4), Origin::Foreign).unwrap_err().to_string();
    assert!(error.contains("\"a\" is of type I32"), "{error}");
    let unsigned = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    assert!(matches!(parse_bytes(&foreign(unsigned, 4), Origin::Convoy), Err(ReadError::NoChecksum { .. })));
    assert!(parse_bytes(&foreign(unsigned, 4), Origin::Foreign).is_ok());
}

#[test]
fn claims_do_not_take_memory() {
    let huge = r#"{"a":{"dtype":"F32","shape":[4611686018427387903],"data_offsets":[0,18446744073709551612]}}"#;
    assert!(parse_bytes(&foreign(huge, 4), Origin::Foreign).is_err());
    let large = r#"{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}"#;
    assert!(parse_bytes(&foreign(large, 4), Origin::Foreign).is_err());
    let mut header = foreign("{}", 0);
    header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(parse_bytes(&header, Origin::Foreign).is_err());
}

#[test]
fn other_files_are_told_apart() {
    let check = |bytes: &[u8], expected: &str| {
        let error = parse_bytes(bytes, Origin::Foreign).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(b"PK\x03\x04 and so on", "pickle");
    check(b"", "0 bytes");
    check(b"just a text, no tensors", "not a safetensors file");
    let missing = TensorFile::read(Path::new("no/such/file")).unwrap_err().to_string();
    assert!(missing.contains("no/such/file"), "{missing}");
    assert!(TensorFile::read(Path::new(".")).is_err());
}

#[test]
fn a_header_may_have_any_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    // At 640 bytes a file begins as a pickle does.
    for size in (0..1000).step_by(8) {
        let metadata = BTreeMap::from([("note".to_owned(), "x".repeat(size))]);
        write_atomic::<&[f32]>(&path, &[], &metadata).unwrap();
        assert_eq!(TensorFile::read(&path).unwrap().metadata, metadata);
    }
}

#[test]
fn no_tensors_are_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty");
    write_atomic::<&[f32]>(&path, &[], &BTreeMap::new()).unwrap();
    assert_eq!(TensorFile::read(&path).unwrap(), TensorFile::default());
}

proptest::proptest! {
    #[test]
    fn reading_never_panics(header in "\\PC{0,200}", data in 0usize..64) {
        let _ = parse_bytes(&foreign(&header, data), Origin::Foreign);
    }

    #[test]
    fn headers_never_panic(
        shape in proptest::collection::vec(proptest::num::u64::ANY, 0..4),
        begin: u64, end: u64, data in 0usize..64,
    ) {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{begin},{end}]}}}}"#);
        let _ = parse_bytes(&foreign(&header, data), Origin::Foreign);
    }
}
