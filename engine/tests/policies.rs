//! The committed policies load.

use std::fs;
use std::path::Path;

use engine::bundle::{Bundle, BundleSources};

#[test]
fn the_committed_policies_load() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    if let Err(faults) = Bundle::load(&sources(&root)) {
        let spelt: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        panic!("{} faults\n{spelt}", faults.len());
    }
}

fn sources(root: &Path) -> BundleSources {
    let mut sources = BundleSources::default();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the policies are beside the engine") {
            let path = entry.expect("the folder can be listed").path();
            let relative = path.strip_prefix(root).expect("it is below the root");
            let name = relative.to_str().expect("names are UTF-8").to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if BundleSources::belongs(&name) {
                sources.files.insert(name, fs::read_to_string(&path).expect("the file is text"));
            }
        }
    }
    sources
}
