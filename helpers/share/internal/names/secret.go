package names

import "strings"

// secrets are patterns of names; a directory of such a name counts with all that is in it.
var secrets = []string{
	".env*", "*.env",
	"*.pem", "*.key", "*.p8", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.ppk", "*.kdbx", "*.kdb", "*.agekey", "*.ovpn", "*.mobileprovision",
	".npmrc", ".yarnrc", ".yarnrc.yml", ".pypirc", ".netrc", "_netrc", ".git-credentials", ".htpasswd", ".pgpass", ".my.cnf", ".mylogin.cnf",
	".s3cfg", ".boto", ".dockercfg", ".dockerconfigjson", ".vault-token", ".terraformrc", "terraform.rc", "*.tfvars", "*.tfvars.json", "*.tfstate", "*.tfstate.backup",
	".credentials", "credentials", "credentials.*", ".credentials.json", "application_default_credentials.json", "service-account*.json", "service_account*.json",
	"serviceaccount*.json", "client_secret*.json", "google-services.json", "secret", "secrets", "secret.*", "secrets.*", ".secrets", ".secrets.*", ".dev.vars*",
	"kubeconfig", "kubeconfig.*", "*.kubeconfig", "wallet.dat", "master.key", "auth.json", "token.json", ".token",
	".ssh", ".gnupg", ".aws", ".azure", ".kube", ".gcloud", ".password-store",
}

// examples are endings that mark a file as one without real values, kept in the repository for others to copy.
var examples = []string{".example", ".examples", ".sample", ".template", ".tmpl", ".tpl", ".dist", ".defaults", ".default", ".pub"}

// Secret tells whether a name (one component) looks like that of a file with keys or passwords in it. It is a guess
// from the name alone: to be shown, and hidden from the guest if the user says so.
func Secret(name string) bool {
	name = fold(name)
	for _, ending := range examples {
		if strings.HasSuffix(name, ending) {
			return false
		}
	}
	// id_rsa, id_ed25519_work; what has an extension (id_card.png, id_map.py) is no key of ssh's.
	if strings.HasPrefix(name, "id_") && strings.IndexByte(name, '.') < 0 {
		return true
	}
	for _, pattern := range secrets {
		if same(pattern, name) {
			return !source(name)
		}
	}
	return false
}

// source tells that secrets.ts is a program about secrets.
func source(name string) bool {
	switch name[strings.LastIndexByte(name, '.')+1:] {
	case "go", "rs", "ts", "tsx", "js", "jsx", "mjs", "cjs", "py", "rb", "java", "kt", "swift", "c", "h", "cpp", "cs", "php", "ex", "exs", "md", "rst", "html", "css", "svg", "png":
		return true
	}
	return false
}
