"""Calls an API with the clients for Python that sign requests. The arguments are its URL, an access key id and the secret. Prints one
line for each call: what it is, the status that is expected, and the status that was received, separated by tabs."""

import datetime
import os
import subprocess
import sys

import boto3
import botocore.auth
import requests
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from requests_aws4auth import AWS4Auth

url, key, secret = sys.argv[1:]
REGION, SERVICE = "eu-west-1", "execute-api"
PATHS = ["/orders", "/orders/a%20b/(1)/~x/@y:z", "/%E2%82%AC?q=a%2Bb&q=c&empty=&A=1", "/a/?x=%2Fy%26z"]
BODY = b'{"order": "\xe2\x82\xac"}'


def report(what, expected, got):
    print(what, expected, got, sep="\t")


def by_botocore(method, target, body=b"", sign=botocore.auth.SigV4Auth, credentials=None, **options):
    credentials = credentials or Credentials(key, secret)
    request = AWSRequest(method=method, url=url + target, data=body)
    sign(credentials, SERVICE, REGION, **options).add_auth(request)
    prepared = requests.Request(method, request.url, headers=dict(request.headers), data=body).prepare()
    prepared.url = request.url  # as it was signed
    return requests.Session().send(prepared, timeout=20).status_code


for path in PATHS:
    report(f"botocore GET {path}", 200, by_botocore("GET", path))
    presigned = by_botocore("GET", path, sign=botocore.auth.SigV4QueryAuth, expires=60)
    report(f"botocore presigned GET {path}", 200, presigned)
for method, expected in [("PUT", 200), ("POST", 201), ("DELETE", 200)]:
    report(f"botocore {method}", expected, by_botocore(method, "/orders/1", BODY))
report("botocore, a denied path", 403, by_botocore("GET", "/secrets"))
report("botocore, another secret", 403, by_botocore("GET", "/a", credentials=Credentials(key, secret + "x")))
report("botocore, unknown key", 403, by_botocore("GET", "/a", credentials=Credentials("SLCUNKNOWN0000000000", secret)))
report("botocore, session token", 403, by_botocore("GET", "/a", credentials=Credentials(key, secret, "token")))
now = botocore.auth.get_current_datetime
for minutes, expected in [(-6, 403), (-4, 200), (4, 200), (6, 403)]:
    botocore.auth.get_current_datetime = lambda: now() + datetime.timedelta(minutes=minutes)
    report(f"botocore, a clock that is {minutes} minutes off", expected, by_botocore("GET", "/a"))
botocore.auth.get_current_datetime = now

aws4auth = AWS4Auth(key, secret, REGION, SERVICE)
for path in ["/orders", "/orders/a%20b", "/o?q=a%2Bb&q=c"]:
    report(f"requests-aws4auth GET {path}", 200, requests.get(url + path, auth=aws4auth, timeout=20).status_code)
put = requests.put(url + "/orders/1", data=BODY, auth=aws4auth, timeout=20)
report("requests-aws4auth PUT", 200, put.status_code)
report("requests-aws4auth, the body", len(BODY), put.json()["received"]["bytes"])

client = boto3.client(
    "lambda", region_name=REGION, endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=secret
)
report("boto3", 200, client.list_functions()["ResponseMetadata"]["HTTPStatusCode"])
stranger = boto3.client(
    "lambda", region_name=REGION, endpoint_url=url, aws_access_key_id=key, aws_secret_access_key="x" * 40
)
try:
    report("boto3, another secret", "InvalidSignatureException", stranger.list_functions())
except ClientError as error:
    report("boto3, another secret", "InvalidSignatureException", error.response["Error"]["Code"])

programs = os.path.dirname(sys.executable)
environment = {**os.environ, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": REGION}


def run(*arguments):
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)


awscurl = [f"{programs}/awscurl", "--service", SERVICE, "--region", REGION, "--fail-with-body"]
report("awscurl GET", 0, run(*awscurl, f"{url}/orders?a=b").returncode)
report("awscurl PUT", 0, run(*awscurl, "-X", "PUT", "-d", "content", f"{url}/orders/1").returncode)
report("awscurl, a denied path", 1, min(1, run(*awscurl, f"{url}/secrets").returncode))
aws = [sys.executable, f"{programs}/aws", "--region", REGION, "--endpoint-url", url, "lambda", "list-functions"]
report("aws-cli", 0, run(*aws).returncode)
environment["AWS_SECRET_ACCESS_KEY"] = "x" * 40
report("aws-cli, another secret", True, "InvalidSignatureException" in run(*aws).stderr)
