//! The generated code is what `proto/rpc.proto` says. `BLESS=1` writes it anew.

use std::{env, fs, path::Path};

#[test]
fn the_generated_code_is_that_of_the_proto() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let protos = home.join("proto");
    let described = protox::compile([protos.join("rpc.proto")], [&protos]).unwrap();
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(true)
        // Its `connect` to a server would collide with the call of that name.
        .build_transport(false)
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .out_dir(folder.path())
        .compile_fds(described)
        .unwrap();

    let fresh = fs::read_to_string(folder.path().join("anycable.rs")).unwrap();
    let kept = home.join("src/generated.rs");
    if env::var_os("BLESS").is_some() {
        fs::write(&kept, &fresh).unwrap();
    }
    let kept = fs::read_to_string(&kept).unwrap_or_default();
    assert!(
        kept == fresh,
        "src/generated.rs is not what proto/rpc.proto gives; BLESS=1 rewrites it"
    );
}
