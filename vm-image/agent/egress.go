package main

type egressParams struct {
	Port        int64  `json:"port"`
	Certificate string `json:"certificate"`
}

func (e *egressParams) check() error {
	if e == nil {
		return nil
	}
	if err := checkInt("egress.port", e.Port, firstPort, lastPort); err != nil {
		return err
	}
	return checkPEMCertificate("egress.certificate", e.Certificate)
}
