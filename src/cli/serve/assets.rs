//! The files of the page.

use super::api::{Answered, Asset, Call, Reply};
use super::error::Problem;

/// The table of files in the folder `page`.
macro_rules! files {
    ($($folder:literal: $($name:literal)+;)*) => {
        &[$($(Asset { path: concat!($folder, $name), text: include_str!(concat!("page/", $folder, $name)) },)+)*]
    };
}

/// All files that are served. A test compares them with the folder.
const FILES: &[Asset] = files! {
    "": "style.css" "main.js" "api.js" "list.js" "machine.js" "overview.js" "charts.js" "editor.js" "console.js" "screen.js"
        "hardware.js" "services.js" "tables.js" "tracing.js" "jobs.js";
    "vendor/xterm-6.0.0/": "xterm.mjs" "addon-fit.mjs" "xterm.css" "LICENSE";
    "vendor/novnc-1.7.0/": "LICENSE.txt" "AUTHORS" "docs/LICENSE.MPL-2.0";
    "vendor/novnc-1.7.0/core/": "base64.js" "deflator.js" "display.js" "encodings.js" "inflator.js" "ra2.js" "rfb.js" "websock.js";
    "vendor/novnc-1.7.0/core/crypto/": "aes.js" "bigint.js" "crypto.js" "des.js" "dh.js" "md5.js" "rsa.js";
    "vendor/novnc-1.7.0/core/decoders/": "copyrect.js" "h264.js" "hextile.js" "jpeg.js" "raw.js" "rre.js" "tight.js"
        "tightpng.js" "zlib.js" "zrle.js";
    "vendor/novnc-1.7.0/core/input/": "domkeytable.js" "fixedkeys.js" "gesturehandler.js" "keyboard.js" "keysym.js"
        "keysymdef.js" "util.js" "vkeys.js" "xtscancodes.js";
    "vendor/novnc-1.7.0/core/util/": "browser.js" "cursor.js" "element.js" "events.js" "eventtarget.js" "int.js" "logging.js"
        "strings.js";
    "vendor/novnc-1.7.0/vendor/pako/": "LICENSE" "lib/utils/common.js" "lib/zlib/adler32.js" "lib/zlib/crc32.js"
        "lib/zlib/deflate.js" "lib/zlib/inffast.js" "lib/zlib/inflate.js" "lib/zlib/inftrees.js" "lib/zlib/messages.js"
        "lib/zlib/trees.js" "lib/zlib/zstream.js";
    "vendor/": "README.md";
};

impl Asset {
    /// Returns its type.
    pub fn kind(&self) -> &'static str {
        match self.path.rsplit_once('.').map(|(_, kind)| kind) {
            Some("js" | "mjs") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            _ => "text/plain; charset=utf-8",
        }
    }

    /// Returns `true` if the file never changes: the folder has the version in its name.
    pub fn is_constant(&self) -> bool {
        self.path.starts_with("vendor/")
    }
}

/// Returns the page.
pub fn page(_: &Call<'_>) -> Answered {
    Ok(Reply::Text("text/html; charset=utf-8", include_str!("page/index.html").to_owned()))
}

/// Returns a file of the page.
pub fn file(call: &Call<'_>) -> Answered {
    let path = call.request.path.get(1..).unwrap_or_default().join("/");
    let none = || Problem::not_found(format!("the page has no file {path:?}"));
    FILES.iter().find(|file| file.path == path).map(Reply::File).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn collect(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, root, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn the_folder_has_the_files_that_are_served_and_the_page() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/serve/page");
        let mut found = BTreeSet::new();
        collect(&root, &root, &mut found);
        assert!(found.remove("index.html"));
        let served: BTreeSet<_> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(found, served);
        assert_eq!(FILES.len(), served.len());
    }

    #[test]
    fn scripts_import_files_that_are_served() {
        let known: BTreeSet<_> = FILES.iter().map(|file| file.path).collect();
        for file in FILES.iter().filter(|file| !file.is_constant() && file.path.ends_with(".js")) {
            for rest in file.text.split("from \"./").skip(1) {
                let path = rest.split('"').next().unwrap();
                assert!(known.contains(path), "{}: {path}", file.path);
            }
        }
    }
}
