//! Generates the code of the `.proto` files; protox compiles them, so nobody installs protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["convoy.proto", "cluster.proto", "peer.proto"];
    files.iter().for_each(|file| println!("cargo:rerun-if-changed={file}"));
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::SmallBuffers")
        .extern_path(".convoy.v1.NodeChunk", "crate::Chunk")
        .extern_path(".convoy.v1.ParametersChunk", "crate::Chunk")
        .compile_fds(descriptors)?;
    Ok(())
}
