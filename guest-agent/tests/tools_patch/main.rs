//! Patches, as programs and language models write them, applied to folders.

mod files;
mod generated;
mod hunks;
#[path = "../trees/mod.rs"]
mod trees;
mod twice;

use std::fs;
use std::path::Path;

use pyro_agent::tools::{patch, Place, ToolError};
use serde_json::Value;
use trees::{assert_same, read_tree};

fn patch_folder(folder: &Path, patch: impl AsRef<[u8]>) -> Result<Vec<Value>, ToolError> {
    let place = Place::open(folder, None, None, None).unwrap();
    let mut output = Vec::new();
    patch::run(&place, &mut patch.as_ref(), &mut output)?;
    let answer: Value = serde_json::from_slice(&output).unwrap();
    Ok(answer["files"].as_array().unwrap().clone())
}

fn failure(folder: &Path, patch: impl AsRef<[u8]>) -> ToolError {
    let before = read_tree(folder);
    let error = patch_folder(folder, patch).unwrap_err();
    assert_same(&read_tree(folder), &before, "a patch that fails");
    assert!(fs::read_dir(folder).unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().contains("pyro")));
    error
}

fn text(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}
