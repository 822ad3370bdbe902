//! A copy of an example service, to change and to break.

use std::path::{Path, PathBuf};

/// A service's folder in a test's own services root.
pub struct Service {
    pub folder: PathBuf,
    pub name: String,
    pub port: u16,
}

impl Service {
    /// Copies `tests/services/{example}` to `{root}/{name}`.
    pub fn copy(root: &Path, example: &str, name: &str, port: u16) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("services").join(example);
        let folder = root.join(name);
        copy(&from, &folder);
        Service { folder, name: name.into(), port }
    }

    pub fn write(&self, path: &str, content: &str) {
        let file = self.folder.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder.join(path)).unwrap()
    }

    /// Makes `/health` answer 500.
    pub fn break_health(&self) {
        let main = self.read("app/main.py");
        self.write("app/main.py", &main.replace("def health()", "def no_health()").replace(
            "@app.get(\"/health\")\n",
            "@app.get(\"/health\")\ndef sick() -> Response:\n    print('I am sick', flush=True)\n    return Response('sick', status_code=500)\n\n\n@app.get(\"/healthy-once\")\n",
        ));
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What the service answers to callers, or why it does not.
    pub async fn get(&self, path: &str) -> Result<(u16, Vec<u8>), String> {
        let answer = crate::program::client().get(self.url(path)).send().await.map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        Ok((status, answer.bytes().await.map_err(|e| e.to_string())?.to_vec()))
    }

    pub async fn text(&self, path: &str) -> String {
        let (status, body) = self.get(path).await.unwrap();
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        String::from_utf8(body).unwrap().trim().to_owned()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
