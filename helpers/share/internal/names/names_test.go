package names

import (
	"math/rand"
	"strings"
	"testing"
	"unicode"
)

func split(path string) []string { return strings.Split(path, "/") }

func TestWhatAHostObeysIsProtected(t *testing.T) {
	for _, path := range []string{
		".git/hooks/pre-commit", ".git/hooks", ".git/config", ".git/config.worktree", ".git/info/attributes", ".git/info/exclude", ".git/objects/info/alternates",
		".git/commondir", ".git/gitdir", ".git/remotes/origin", ".git/branches/x", ".git/rebase-merge/git-rebase-todo", "a/b/c/d/e/f/.git/hooks/post-checkout",
		".git/modules/sub/config", ".git/modules/deep/er/sub/hooks/pre-push", ".git/modules/a/modules/b/config", ".git/modules/sub/objects/info/alternates",
		".git/worktrees/w/config.worktree", ".git/worktrees/w/commondir", ".git/worktrees/w/gitdir", "sub/.git", ".git", "mirror.git/config", "mirror.git/hooks/update",
		".gitmodules", "a/.gitconfig", ".vscode/tasks.json", "x/y/.vscode/settings.json", ".vscode", "p.code-workspace", ".idea/workspace.xml", ".vim/plugin/a.vim", ".nvimrc", ".exrc",
		".zed/tasks.json", ".fleet/run.json", ".devcontainer/devcontainer.json", ".mcp.json", "a/.mcp.json", ".claude/settings.local.json", ".claude/commands/x.md", ".cursor/mcp.json",
		".codex/config.toml", ".gemini/settings.json", ".aider.conf.yml", ".continue/config.json", "CLAUDE.md", "docs/AGENTS.md", ".bashrc", ".profile", ".zshrc", ".zshenv",
		".config/fish/config.fish", ".envrc", "deep/er/.envrc", ".direnv/bin/x", ".ripgreprc", ".npmrc", ".yarnrc.yml", ".pypirc", "Library/LaunchAgents/x.plist", ".config/autostart/x",
		".config/systemd/user/x.service", "Click me.desktop", "a/b.LNK", ".husky/pre-commit", ".pre-commit-config.yaml", "lefthook.yml", "HEAD", "docs/HEAD", ".ssh/authorized_keys", ".local/bin/ls",
	} {
		if !Protected(split(path)) {
			t.Errorf("%s is not protected", path)
		}
	}
}

func TestOrdinaryWorkIsNotProtected(t *testing.T) {
	for _, path := range []string{
		"", "README.md", "src/main.go", ".git/HEAD", ".git/index", ".git/refs/heads/main", ".git/refs/heads/config", ".git/refs/heads/hooks", ".git/objects/aa/bb", ".git/objects/pack/p.pack",
		".git/logs/HEAD", ".git/logs/refs/heads/main", ".git/refs/remotes/origin/HEAD", ".git/packed-refs", ".git/COMMIT_EDITMSG", ".git/FETCH_HEAD", ".git/ORIG_HEAD", ".git/MERGE_MSG",
		".git/modules/sub/HEAD", ".git/modules/sub/objects/pack/p.pack", ".git/worktrees/w/HEAD", ".git/worktrees/w/index", ".gitignore", ".gitattributes", ".github/workflows/ci.yml",
		"hooks/use.ts", "src/hooks/index.ts", "config", "config/app.json", "info/x", "objects/info/alternates", "modules/a/config", ".env", ".env.local", ".editorconfig", ".nvmrc", "package.json", "Makefile",
		".config/app.json", ".config", "Library/Fonts/x", "claude.md.txt", "myCLAUDE.md", "a.vscode", ".vscodex", "vscode/tasks.json", "_vscode", "bashrc", ".bashrc.md", "x.bashrc", "desktop", "x.desktop.txt",
		"git~1x", "git~", "~1", "~", "gith~1", "hooks~1", "src~1/config", "forehead", "HEAD.txt", "ahead", "pip.confx", ".npmrc.bak", ".git2/hooks/x", "git/hooks/pre-commit", "agit/config",
	} {
		if Protected(split(path)) {
			t.Errorf("%s is protected: %s", path, Reason(split(path), false))
		}
	}
}

func TestADirectoryMayHaveANameThatAFileMayNot(t *testing.T) {
	for _, path := range []string{".git", "sub/.git", "components/head", "HEAD", "GIT~1"} {
		if ProtectedDirectory(split(path)) || !Protected(split(path)) {
			t.Errorf("%s: directory %v, file %v", path, ProtectedDirectory(split(path)), Protected(split(path)))
		}
	}
	for _, path := range []string{".git/hooks", ".vscode", "HEAD/.vscode", ".git/rebase-merge"} {
		if !ProtectedDirectory(split(path)) {
			t.Errorf("the directory %s is not protected", path)
		}
	}
	if ProtectedDirectory(nil) || Protected(nil) {
		t.Error("the folder itself is protected")
	}
}

// has is what a folder has, for Look: its names with the directories above them.
func has(path string, there ...string) Look {
	return func(depth int, name string) bool {
		at := strings.Join(append(append([]string{}, split(path)[:depth]...), name), "/")
		for _, one := range there {
			if one == at || strings.HasPrefix(one, at+"/") {
				return true
			}
		}
		return false
	}
}

func TestABareRepositoryIsProtectedWhateverItIsCalled(t *testing.T) {
	rules := &Rules{}
	for path, want := range map[string]bool{
		"store/config": true, "store/hooks/update": true, "store/hooks": true, "store/objects/info/alternates": true, "store/modules/x/hooks/y": true, "store/CONFIG ": true, "store/info/attributes": true,
		"store/worktrees/w/commondir": true, "store/commondir": true, "store/config.worktree": true, "store/HEAD": true,
		"store": false, "store/objects/aa/bb": false, "store/refs/heads/config": false, "store/packed-refs": false, "store/description": false, "other/config": false, "other/hooks/update": false, "config": false,
	} {
		if rules.Protected(split(path), false, has(path, "store/HEAD")) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
	for path, want := range map[string]bool{"config": true, "hooks/x": true, "src/config": false} { // the folder itself is one
		if rules.Protected(split(path), false, has(path, "HEAD")) != want {
			t.Errorf("the folder itself, %s: %v", path, !want)
		}
	}
	for path, want := range map[string]bool{"store/objects": true, "store/objects/info": true, "store/hooks": true, "store/modules": true, "store/refs": true, "store": false, "store/src": false, "other/objects": false} {
		if rules.Carries(split(path), has(path, "store/HEAD")) != want {
			t.Errorf("moving the directory %s: %v", path, !want)
		}
	}
	// a HEAD of git's own makes no repository of the directory it is in
	for path, want := range map[string]bool{".git/refs/remotes/origin/config": false, ".git/logs/hooks": false, ".git/logs/objects": true, ".git/refs/remotes/origin/refs": true} {
		if rules.Protected(split(path), true, has(path, ".git/refs/remotes/origin/HEAD", ".git/logs/HEAD")) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
	for path, there := range map[string][]string{".git/kept/config": {".git/kept/HEAD"}, ".git/logs/config": {".git/logs/HEAD", ".git/logs/objects/x", ".git/logs/refs/x"}} {
		if !rules.Protected(split(path), false, has(path, there...)) || rules.Protected(split(path), false, has(path, there[1:]...)) {
			t.Error("a git directory of the host's below another one:", path)
		}
	}
}

// Wherever in a git directory a HEAD is free, its directory can be no git directory with a config that a guest wrote: the config is
// protected, or something is without which git takes it for none.
func TestBelowAGitDirectoryNoOtherCanBeMade(t *testing.T) {
	random := rand.New(rand.NewSource(3))
	parts := []string{"modules", "worktrees", "logs", "refs", "remotes", "origin", "heads", "objects", "x", "x.git", "info", "modules", "sub"}
	free := 0
	for range 20_000 {
		dir := []string{[]string{".git", "x.git", "a/.git"}[random.Intn(3)]}
		for range random.Intn(7) {
			dir = append(dir, parts[random.Intn(len(parts))])
		}
		in := func(name string) []string { return append(append([]string{}, dir...), split(name)...) }
		if Protected(in("HEAD")) {
			continue
		}
		free++
		obeyed := !Protected(in("config")) || !Protected(in("hooks/x"))
		whole := !ProtectedDirectory(in("objects")) && !ProtectedDirectory(in("refs")) || !Protected(in("commondir"))
		if obeyed && whole {
			t.Fatalf("%v can be made a git directory with a config of its own", dir)
		}
	}
	if free < 500 {
		t.Errorf("only %d", free)
	}
	for _, path := range []string{".git/HEAD", "x.git/sub/HEAD", ".git/modules/HEAD", ".git/objects/HEAD", ".git/refs/HEAD", ".git/x/HEAD", "x.git/src/deep/HEAD", ".git/refs/remotes/HEAD", ".git/logs/x/HEAD"} {
		if Protected(split(path)) != (path != ".git/HEAD") {
			t.Errorf("%s", path)
		}
	}
}

func TestWhatALinkInAProtectedPlaceLeadsToIsProtectedLikeThePlace(t *testing.T) {
	rules := &Rules{}
	rules.Follow(split(".vscode"), split(".vscode"), split("dotfiles/editor"))
	rules.Follow(split(".config"), split(".config"), split("dotfiles/Config"))
	rules.Follow(split("deep/repo/.git/hooks"), split("deep/repo/.git/hooks"), split("scripts"))
	rules.Follow(split("bare/store/hooks"), split(".git/hooks"), split("scripts"))
	none := func(int, string) bool { return false }
	for path, want := range map[string]bool{
		"dotfiles/editor/tasks.json": true, "DOTFILES/editor./tasks.json": true, "dotfiles/editor": true, "dotfiles/config/fish/x.fish": true, "scripts/pre-commit": true, "scripts/a/b": true,
		"dotfiles/config/app.json": false, "dotfiles/other/tasks.json": false, "dotfiles": false, "editor/tasks.json": false, "scripts2/x": false, "a/scripts/x": false,
	} {
		if rules.Protected(split(path), false, none) != want {
			t.Errorf("%s: %v", path, !want)
		}
		if (&Rules{}).Protected(split(path), false, none) {
			t.Errorf("control: without the link %s is protected", path)
		}
	}
	for path, want := range map[string]bool{"dotfiles": true, "dotfiles/config": true, "dotfiles/config/fish": true, "scripts": true, "deep": true, "Deep/repo": true, "bare": true, "bare/store": true, "dotfiles/config/app": false, "deep/other": false, "dotfiles/x": false, "src": false} {
		if rules.Carries(split(path), none) != want {
			t.Errorf("moving the directory %s: %v", path, !want)
		}
	}
	all := &Rules{}
	all.Follow(split(".config"), split(".config"), nil)
	if path := split("fish/x"); !all.Protected(path, false, none) || all.Protected(split("src/x"), false, none) {
		t.Error("a link to the folder itself")
	}
}

func TestALinkInThePlaceOfADirectoryThatGivesMeaningIsProtected(t *testing.T) {
	for path, want := range map[string]bool{
		".hg": true, "a/.CONFIG": true, ".git/modules/x": true, ".git/objects": true, "mirror.git": true, "src": false, "a/hg": false, "github": false,
	} {
		if ProtectedLink(split(path)) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}

func TestMovingADirectoryWhoseNameGivesMeaningIsNoticed(t *testing.T) {
	for path, want := range map[string]bool{
		".git": true, "a/.git": true, ".git/foo": true, ".GIT": true, "GIT~1": true, "x.git": true, ".config": true, ".Config": true, "Library": true, ".local/share": true, ".github": true, ".vscode": true, ".vscode/x": true,
		"src": false, "a/b/c": false, "github": false, "Libraries": false, "": false,
	} {
		if Carries(split(path)) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
	// What Carries promises, for every entry: each directory above an entry's last component carries.
	for _, e := range table {
		components := split(strings.ReplaceAll(e.path, "*", "x"))
		for n := 1; n < len(components); n++ {
			if !Carries(append([]string{"some", "where"}, components[:n]...)) {
				t.Errorf("%v does not carry %s", components[:n], e.path)
			}
		}
	}
}

// variants changes a name in the ways in which filesystems still take it for the same.
func variants(random *rand.Rand, name string) string {
	var b strings.Builder
	ignored := []rune{0x200c, 0x200d, 0x200b, 0x200e, 0x202a, 0x202e, 0x206a, 0x206f, 0xfeff, 0xad, 0x34f, 0xfe0f, 0xe0001, 0x180e}
	for i := 0; i < len(name); i++ {
		if random.Intn(4) == 0 {
			b.WriteRune(ignored[random.Intn(len(ignored))])
		}
		c := rune(name[i])
		ligature := map[string]rune{"ff": 'ﬀ', "fi": 'ﬁ', "fl": 'ﬂ', "st": 'ﬆ', "ss": 'ß'}[strings.ToLower(name[i:min(len(name), i+2)])]
		switch kelvin := random.Intn(3) == 0; {
		case ligature != 0 && random.Intn(2) == 0:
			c = ligature
			i++
		case kelvin && unicode.ToLower(c) == 'k':
			c = 'K'
		case kelvin && unicode.ToLower(c) == 's':
			c = 'ſ'
		case random.Intn(2) == 0:
			c = unicode.ToUpper(c)
		default:
			c = unicode.ToLower(c)
		}
		b.WriteRune(c)
	}
	if random.Intn(3) == 0 {
		b.WriteString([]string{".", " ", ". . ", "...", "\u200d.", ":stream", "::$DATA", "::$INDEX_ALLOCATION"}[random.Intn(8)])
	}
	return b.String()
}

func concrete(random *rand.Rand, path string) []string {
	path = strings.ReplaceAll(path, "*", []string{"x", "a.b", "-2"}[random.Intn(3)])
	return split(path)
}

func TestEveryWayToWriteAProtectedNameIsProtected(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	checked := 0
	check := func(base []string, path string) {
		for range 60 {
			components := append([]string{}, base...)
			for n := random.Intn(4); n > 0; n-- {
				components = append([]string{"dir"}, components...)
			}
			for _, component := range concrete(random, path) {
				components = append(components, variants(random, component))
			}
			for range random.Intn(3) {
				components = append(components, "below")
			}
			if !Protected(components) {
				t.Errorf("%q (%s) is not protected", components, path)
			}
			if joined := strings.Join(components, "\\"); !Protected([]string{joined}) {
				t.Errorf("%q, one name here and a path on Windows, is not protected", joined)
			}
			checked++
		}
	}
	for _, e := range table {
		check(nil, e.path)
	}
	for _, e := range gitTable {
		for range 4 {
			check([]string{variants(random, ".git")}, e.path)
			check([]string{"bare" + variants(random, ".git")}, e.path)
			check([]string{variants(random, ".git"), variants(random, "modules"), "sub"}, e.path)
		}
	}
	t.Logf("%d paths", checked)
}

func TestShortNamesOfNTFSAreProtected(t *testing.T) {
	for _, path := range []string{
		"GIT~1/hooks/x", "git~4/config", "GITMOD~1", "gitmod~2", "GI7EBA~1", "GITCON~1", "VSCODE~1/tasks.json", "BASHRC~1", "CLAUDE~1.MD", "CLAUDE~2/settings.json",
		".git/CONFIG~1.WOR", ".git/modules/x/CONFIG~1.WOR", "MCP~1.JSO", "GITMO~10", "Library/LAUNCH~1/x", ".git/objects/info/ALTERN~1", ".git/WORKTR~1/w/gitdir", "ENVRC~1",
	} {
		if !Protected(split(path)) {
			t.Errorf("%s is not protected", path)
		}
	}
}

// No letter changed, dropped or added at random gives a protected name, unless it gives another entry's.
func TestNearMissesOfProtectedNamesAreFree(t *testing.T) {
	random := rand.New(rand.NewSource(2))
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	free := 0
	for _, e := range table {
		if strings.Contains(e.path, "*") || strings.Contains(e.path, "/") {
			continue
		}
		for range 50 {
			name := []byte(fold(e.path))
			at := random.Intn(len(name))
			switch letter := letters[random.Intn(len(letters))]; random.Intn(3) {
			case 0:
				name[at] = letter
			case 1:
				name = append(name[:at], name[at+1:]...)
			default:
				name = append(name[:at], append([]byte{letter}, name[at:]...)...)
			}
			if known(string(name)) {
				continue
			}
			free++
			if Protected([]string{string(name)}) {
				t.Errorf("%q (near %s) is protected", name, e.path)
			}
		}
	}
	if free < 5000 {
		t.Errorf("only %d names were tried", free)
	}
}

// known is a second, slower opinion on whether a name stands in the table.
func known(name string) bool {
	name = strings.TrimRight(name, ". ")
	for _, e := range table {
		head, tail, glob := strings.Cut(fold(e.path), "*")
		if name == head || glob && strings.HasPrefix(name, head) && strings.HasSuffix(name[len(head):], fold("x" + tail)[1:]) {
			return true
		}
	}
	return name == ".git" || name == "head"
}

func TestEveryEntryHasAReasonAndStandsOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range append(append([]entry{}, table...), gitTable...) {
		if e.reason == "" || e.path == "" || seen[fold(e.path)] {
			t.Errorf("%+v", e)
		}
		seen[fold(e.path)] = true
	}
}

func TestNamesThatLookLikeSecrets(t *testing.T) {
	for _, name := range []string{
		".env", ".env.local", ".ENV.production", ".envrc", "prod.env", "server.pem", "id_rsa", "id_ed25519", "id_ed25519_work", "ID_RSA", ".npmrc", ".netrc", "credentials", "credentials.json",
		"key.p12", ".ssh", ".aws", "secrets.yaml", "client_secret_1.json", "terraform.tfstate", ".git-credentials", ".e\u200dnv",
	} {
		if !Secret(name) {
			t.Errorf("%s does not look like a secret", name)
		}
	}
	for _, name := range []string{
		"", ".env.example", ".env.sample", ".env.template", "id_rsa.pub", "id_card.png", "id_map.py", "environment.ts", "secrets.go", "credentials.py", "pem", "pem.txt", "package.json", "tokenizer.json", "key.ts", "README.md",
	} {
		if Secret(name) {
			t.Errorf("%s looks like a secret", name)
		}
	}
}

func TestAProjectAnnouncesItsDependencyFolders(t *testing.T) {
	for files, want := range map[string]string{
		"package.json":                    "node_modules",
		"package.json next.config.mjs":    "node_modules .next",
		"pyproject.toml main.py":          ".venv",
		"requirements-dev.txt":            ".venv",
		"Cargo.toml src":                  "target",
		"composer.json":                   "vendor",
		"settings.gradle.kts":             ".gradle build",
		"go.mod main.go":                  "",
		"README.md":                       "",
		"node_modules":                    "",
		"Cargo.toml package.json pom.xml": "node_modules target",
	} {
		var absent []string
		for _, folder := range LocalFolders(strings.Fields(files)) {
			if folder.WhenAbsent {
				absent = append(absent, folder.Name)
			}
		}
		if strings.Join(absent, " ") != want {
			t.Errorf("%s: %v, want %s", files, absent, want)
		}
	}
	cached := false
	for _, folder := range LocalFolders([]string{"x.py"}) {
		cached = cached || folder.Name == "__pycache__" && !folder.WhenAbsent
	}
	if !cached {
		t.Error("__pycache__ beside a Python file")
	}
}

func FuzzProtected(f *testing.F) {
	f.Add(".git/hooks/x")
	f.Add("GIT~1/\xff\u200c/config")
	f.Fuzz(func(t *testing.T, path string) {
		components := split(path)
		if Protected(components) {
			if upper := split(strings.ToUpper(path)); isASCII(path) && !Protected(upper) {
				t.Errorf("%q is protected, %q is not", path, upper)
			}
		}
		if ProtectedDirectory(components) && !(Protected(components) && ProtectedDirectory(append(components, "below"))) {
			t.Errorf("%q: the directory is protected; as a file or what is below it is not", path)
		}
		Carries(components)
		Secret(path)
	})
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

func BenchmarkProtected(b *testing.B) {
	path := split("packages/app/src/components/button/index.tsx")
	for b.Loop() {
		Protected(path)
	}
}

// Rules cost no look at the folder but for the few names that matter in a git directory.
func BenchmarkRules(b *testing.B) {
	rules := &Rules{}
	rules.Follow(split(".vscode"), split(".vscode"), split("dotfiles/editor"))
	path := split("src/internal/deep/er/module/file.go")
	looked := 0
	look := func(int, string) bool { looked++; return false }
	for b.Loop() {
		rules.Protected(path, false, look)
	}
	if looked > 0 {
		b.Error("the folder was looked at")
	}
}

// A folder that lies in a protected place itself is one, by the names above it.
func TestAFolderIsJudgedByWhereTheHostHasIt(t *testing.T) {
	none := func(int, string) bool { return false }
	for place, paths := range map[string]map[string]bool{
		"home/u/proj/.git/hooks":        {"pre-commit": true, "a/b": true},
		"home/u/proj/.git":              {"config": true, "hooks/x": true, "objects/aa/bb": false, "HEAD": false, "refs/heads/main": false, "refs/remotes/o/objects": true},
		"home/u/proj/.git/refs":         {"heads/main": false, "remotes/o/objects": true, "x/HEAD": true},
		"home/u/proj/.vscode":           {"tasks.json": true, "sub/x": true},
		"home/u/.claude":                {"settings.json": true},
		"home/u/.husky/_":               {"pre-push": true},
		"home/u/.config/systemd/user":   {"x.service": true},
		"home/u/.local/bin":             {"ls": true},
		"home/u/.local":                 {"bin/ls": true, "share/applications/x": true, "share/fonts/x": false, "state/x": false},
		"home/u/.config":                {"autostart/x": true, "git/config": true, "app/x": false},
		"home/u/.config/foo":            {"x": false, "git": false, "git/config": false, "autostart/x": false},
		"home/u/.docker":                {"config.json": true, "other.json": false},
		"home/u/.cargo":                 {"config.toml": true, "registry/x": false},
		"home/u/store.git/main":         {"config": false, "hooks/x": false, "src/main.go": false, "HEAD": true, ".vscode/x": true},
		"home/u/store.git/modules/a/b":  {"hooks/x": true, "config": true},
		"home/U/PROJ/.Git/Hooks":        {"pre-commit": true},
		"home/u/plain/project":          {"config": false, "hooks/x": false, "README": false, ".vscode/tasks.json": true, ".git/config": true, "a/.envrc": true},
		"srv/Microsoft/Windows/startup": {"x": false},
	} {
		rules := &Rules{}
		rules.Within(split(place))
		for path, want := range paths {
			if rules.Protected(split(path), false, none) != want {
				t.Errorf("%s in %s: %v", path, place, !want)
			}
			plain := &Rules{}
			if plain.Protected(split(path), false, none) != (Reason(split(path), false) != "") {
				t.Errorf("control: %s", path)
			}
		}
	}
	for place, paths := range map[string]map[string]bool{
		"home/u/.vscode":         {"sub": true},
		"home/u/proj/.git":       {"x": true, "objects": true},
		"home/u/proj/.git/hooks": {"sub": true},
		"home/u/.local":          {"share": true, "bin": true, "state": false},
		"home/u/store.git/main":  {"src": false, "objects": false, ".vscode": true, ".config": true},
		"home/u/plain":           {"src": false, ".hg": true},
	} {
		rules := &Rules{}
		rules.Within(split(place))
		for path, want := range paths {
			if rules.Carries(split(path), none) != want {
				t.Errorf("moving the directory %s in %s: %v", path, place, !want)
			}
		}
	}
	two := &Rules{}
	two.Within(split("home/u/plain"))
	two.Within([]string{".git", "hooks"})
	if !two.Protected(split("update"), false, none) {
		t.Error("a second place")
	}
	if root := two.Protected(nil, true, none); !root {
		t.Error("the folder itself")
	}
}

// Above an ordinary folder there is nothing that makes a difference.
func TestAnOrdinaryPlaceChangesNothing(t *testing.T) {
	none := func(int, string) bool { return false }
	random := rand.New(rand.NewSource(7))
	parts := []string{".git", "hooks", "config", ".config", "git", "src", "HEAD", "x.git", "modules", ".vscode", "a", "bin", ".local", "refs", "logs", "objects", "info"}
	within := &Rules{}
	within.Within(split("home/someone/projects/thing"))
	for range 20_000 {
		var path []string
		for range 1 + random.Intn(5) {
			path = append(path, parts[random.Intn(len(parts))])
		}
		for _, directory := range []bool{true, false} {
			if within.Protected(path, directory, none) != (&Rules{}).Protected(path, directory, none) {
				t.Fatalf("%v, directory %v", path, directory)
			}
		}
		if within.Carries(path, none) != (&Rules{}).Carries(path, none) {
			t.Fatalf("moving %v", path)
		}
	}
}

// Entries are found by bytes of their first component; what that leaves out no entry may mean.
func TestAnEntryIsFoundJustAsIfAllWereLookedAt(t *testing.T) {
	all := func(r *rules, path []string, partial bool) (rule, bool) {
		for _, c := range r.all {
			if (strings.IndexByte(path[0], '~') >= 0 || strings.IndexByte(c.components[0], '*') >= 0 || c.components[0] == path[0]) && c.begins(path, partial) {
				return c, true
			}
		}
		return rule{}, false
	}
	random := rand.New(rand.NewSource(1))
	pick := func(from string) string { return string(from[random.Intn(len(from))]) }
	found := 0
	for name, r := range map[string]*rules{"the table": &protected, "a git directory's": &inGitDir} {
		for range 30_000 {
			path := []string{pick("a.x~*_z")}
			if random.Intn(8) > 0 {
				path = append([]string{}, r.all[random.Intn(len(r.all))].components...)
			}
			for i := range path {
				for strings.Contains(path[i], "*") {
					path[i] = strings.Replace(path[i], "*", strings.Repeat(pick("a.x~_z"), random.Intn(3)), 1)
				}
			}
			switch at := random.Intn(len(path[0]) + 1); random.Intn(4) {
			case 0:
				path[0] = path[0][:at] + pick("a.x~_ztph\xff") + path[0][at:]
			case 1:
				path[0] = path[0][:at]
			case 2:
				path[0] = path[0][at:]
			}
			partial := random.Intn(2) == 0
			_, is := r.at(path, partial)
			_, want := all(r, path, partial)
			if is != want {
				t.Fatalf("%s, %q (partial: %v): found %v, by looking at all %v", name, path, partial, is, want)
			}
			if is {
				found++
			}
		}
	}
	if found < 5_000 {
		t.Errorf("only %d were found at all", found)
	}
}
