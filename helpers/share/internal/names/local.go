package names

import "strings"

// LocalFolder is a directory whose content a tool makes or fetches again at any time.
type LocalFolder struct {
	Name string
	// WhenAbsent: the project's first command makes it, so it may be there before. Others only count where they exist.
	WhenAbsent bool
}

// localFolders says what the files of a project's top directory announce.
var localFolders = []struct {
	markers []string
	folders []LocalFolder
}{
	{[]string{"package.json"}, []LocalFolder{{"node_modules", true}, {".parcel-cache", false}, {".npm", false}, {".pnpm-store", false}, {".vite", false}, {".nyc_output", false}}},
	{[]string{"bower.json"}, []LocalFolder{{"bower_components", false}}},
	{[]string{"next.config.*"}, []LocalFolder{{".next", true}}},
	{[]string{"nuxt.config.*"}, []LocalFolder{{".nuxt", true}, {".output", false}}},
	{[]string{"svelte.config.*"}, []LocalFolder{{".svelte-kit", true}}},
	{[]string{"astro.config.*"}, []LocalFolder{{".astro", false}}},
	{[]string{"angular.json"}, []LocalFolder{{".angular", true}}},
	{[]string{"turbo.json", "turbo.jsonc"}, []LocalFolder{{".turbo", true}}},
	{[]string{"nx.json"}, []LocalFolder{{".nx", true}}},
	{[]string{"pyproject.toml", "requirements*.txt", "setup.py", "setup.cfg", "Pipfile", "uv.lock"}, []LocalFolder{
		{".venv", true}, {"venv", false}, {"__pycache__", false}, {".tox", false}, {".nox", false},
		{".mypy_cache", false}, {".pytest_cache", false}, {".ruff_cache", false}, {".eggs", false},
	}},
	{[]string{"*.py"}, []LocalFolder{{"__pycache__", false}, {".venv", false}, {"venv", false}}},
	{[]string{"Cargo.toml", "pom.xml"}, []LocalFolder{{"target", true}}},
	{[]string{"composer.json"}, []LocalFolder{{"vendor", true}}},
	{[]string{"Gemfile"}, []LocalFolder{{"vendor", false}}},
	{[]string{"build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"}, []LocalFolder{{".gradle", true}, {"build", true}}},
	{[]string{"mix.exs"}, []LocalFolder{{"_build", true}, {"deps", true}}},
	{[]string{"pubspec.yaml"}, []LocalFolder{{".dart_tool", true}, {"build", false}}},
	{[]string{"Podfile"}, []LocalFolder{{"Pods", false}}},
	{[]string{"Package.swift"}, []LocalFolder{{".build", true}}},
	{[]string{"*.csproj", "*.fsproj", "*.vbproj"}, []LocalFolder{{"bin", false}, {"obj", false}}},
	{[]string{"stack.yaml"}, []LocalFolder{{".stack-work", true}}},
	{[]string{"*.cabal", "cabal.project"}, []LocalFolder{{"dist-newstyle", true}}},
	{[]string{"build.zig"}, []LocalFolder{{".zig-cache", true}, {"zig-cache", false}, {"zig-out", false}}},
	{[]string{"elm.json"}, []LocalFolder{{"elm-stuff", true}}},
	{[]string{"build.sbt"}, []LocalFolder{{"target", true}}},
	{[]string{"dune-project"}, []LocalFolder{{"_build", true}}},
	{[]string{"*.tf"}, []LocalFolder{{".terraform", false}}},
}

// LocalFolders gives, for the names in one directory, the folders in it that may live on the guest's own disk. It is
// for the caller to leave out those that exist and are neither ignored by git nor empty: they may hold work (a `vendor` or
// `build` that is committed). Names are compared as they are: a folder that is missed here is only shared.
func LocalFolders(entries []string) []LocalFolder {
	var found []LocalFolder
	for _, kind := range localFolders {
		if !announces(kind.markers, entries) {
			continue
		}
		for _, folder := range kind.folders {
			found = add(found, folder)
		}
	}
	return found
}

func announces(markers, entries []string) bool {
	for _, marker := range markers {
		for _, name := range entries {
			if marker == name || strings.IndexByte(marker, '*') >= 0 && same(marker, name) {
				return true
			}
		}
	}
	return false
}

func add(to []LocalFolder, folder LocalFolder) []LocalFolder {
	for i := range to {
		if to[i].Name == folder.Name {
			to[i].WhenAbsent = to[i].WhenAbsent || folder.WhenAbsent
			return to
		}
	}
	return append(to, folder)
}
