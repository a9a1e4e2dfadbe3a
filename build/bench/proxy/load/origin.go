//go:build linux

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// small is the body of a small answer: as long as many an API's.
var small = make([]byte, 256)

// serveOrigin answers for ever. What it answers may be kept by nobody, so that each request comes to it.
func serveOrigin(dir, address string) error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "origin.pem"), filepath.Join(dir, "origin.key"))
	if err != nil {
		return err
	}
	for i := range small {
		small[i] = 'a' + byte(i%26)
	}
	chunk := make([]byte, 64<<10)
	if _, err := rand.Read(chunk); err != nil { // what does not compress, and holds no key's text
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /small", func(w http.ResponseWriter, _ *http.Request) {
		head(w, "application/json", len(small))
		w.Write(small)
	})
	mux.HandleFunc("GET /bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("n"))
		if err != nil {
			http.Error(w, "no number", http.StatusBadRequest)
			return
		}
		head(w, "application/octet-stream", n)
		for n > 0 {
			part := chunk[:min(n, len(chunk))]
			if _, err := w.Write(part); err != nil {
				return
			}
			n -= len(part)
		}
	})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: mux,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{pair},
			NextProtos:   []string{"h2", "http/1.1"},
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	fmt.Println("serving")
	return server.ServeTLS(listener, "", "")
}

func head(w http.ResponseWriter, kind string, length int) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(length))
	w.Header().Set("Cache-Control", "no-store")
}

// makeCertificates writes ca.pem with its leaf origin.pem and origin.key for name, and peer.pem with peer.key: an authority for peers
// that are given one, of RSA, as not all of them take another.
func makeCertificates(dir, name string) error {
	var keys [2]crypto.Signer
	for i := range keys {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		keys[i] = key
	}
	peerKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	ca, err := certificate(authority("Authority of the bench"), keys[0], nil, nil)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    []string{name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	origin, err := certificate(leaf, keys[1], ca, keys[0])
	if err != nil {
		return err
	}
	peer, err := certificate(authority("Authority of the peers"), peerKey, nil, nil)
	if err != nil {
		return err
	}
	files := map[string][]byte{"ca.pem": pemOf(ca), "origin.pem": pemOf(origin), "peer.pem": pemOf(peer)}
	for file, key := range map[string]crypto.Signer{"origin.key": keys[1], "peer.key": peerKey} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		files[file] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// certificate makes one for key, signed by its parent or, without one, by itself.
func certificate(template *x509.Certificate, key crypto.Signer, parent *x509.Certificate, signer crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(30 * 24 * time.Hour)
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
