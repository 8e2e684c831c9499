"""Gets temporary credentials with the SDK for Python and the AWS CLI, which find them by the environment of IRSA alone. The arguments are
the URL of the API, the URL of the token service, and a file with a token of a ServiceAccount, one with another audience, and one of a
ServiceAccount that no role trusts. Prints lines as clients.py does."""

import os
import subprocess
import sys

import boto3
import botocore.auth
import botocore.session
import requests
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

url, sts_url, token_file, other_audience, stranger = sys.argv[1:]
REGION, SERVICE, ROLE = "eu-west-1", "execute-api", "arn:aws:iam::000000000000:role/reporting"
SESSION = "arn:aws:sts::000000000000:assumed-role/reporting/"


def report(what, expected, got):
    print(what, expected, got, sep="\t")


def irsa(**changes):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    variables = {
        "AWS_ROLE_ARN": ROLE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": token_file,
        "AWS_ENDPOINT_URL_STS": sts_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return {**inherited, **variables, **changes}


os.environ.clear()
os.environ.update(irsa())

found = boto3.client("sts").get_caller_identity()
report("boto3 GetCallerIdentity, the session", True, found["Arn"].startswith(SESSION))
report("boto3 GetCallerIdentity, the account", "000000000000", found["Account"])
report("boto3 GetCallerIdentity, the id", True, found["UserId"].startswith("shop/reporting:"))
client = boto3.client("lambda", endpoint_url=url)
report("boto3 calls the API", 200, client.list_functions()["ResponseMetadata"]["HTTPStatusCode"])

credentials = botocore.session.get_session().get_credentials().get_frozen_credentials()


def by_botocore(target, sign=botocore.auth.SigV4Auth, credentials=credentials, **options):
    request = AWSRequest(method="GET", url=url + target)
    sign(credentials, SERVICE, REGION, **options).add_auth(request)
    prepared = requests.Request("GET", request.url, headers=dict(request.headers)).prepare()
    prepared.url = request.url
    return requests.Session().send(prepared, timeout=20).status_code


report("a session signs", 200, by_botocore("/orders/a%20b?q=a%2Bb"))
report("a session presigns", 200, by_botocore("/orders", botocore.auth.SigV4QueryAuth, expires=60))
report("a path that the role's policy denies", 403, by_botocore("/secrets"))
changed = credentials.token[:-4] + ("AAAA" if credentials.token[-4:] != "AAAA" else "BBBB")
for what, other in [
    ("a changed session token", credentials._replace(token=changed)),
    ("no session token", credentials._replace(token=None)),
    ("another access key id", credentials._replace(access_key="SLTEAAAAAAAAAAAAAAAA")),
    ("another secret", credentials._replace(secret_key="x" * 40)),
]:
    report(what, 403, by_botocore("/orders", credentials=other))

sts = boto3.client("sts")


def assume(token, **options):
    with open(token, encoding="ascii") as file:
        text = file.read()
    options = {"RoleArn": ROLE, "RoleSessionName": "test", **options}
    try:
        given = sts.assume_role_with_web_identity(WebIdentityToken=text, **options)
        return sorted(given) + sorted(given["Credentials"])
    except ClientError as error:
        return error.response["Error"]["Code"]


fields = ["AssumedRoleUser", "Credentials", "ResponseMetadata", "SubjectFromWebIdentityToken"]
fields += ["AccessKeyId", "Expiration", "SecretAccessKey", "SessionToken"]
report("AssumeRoleWithWebIdentity", fields, assume(token_file, DurationSeconds=900))
report("a token for another audience", "InvalidIdentityToken", assume(other_audience))
report("a ServiceAccount that no role trusts", "AccessDenied", assume(stranger))
report("a role that does not exist", "AccessDenied", assume(token_file, RoleArn=ROLE + "2"))
report("a session that is too long", "ValidationError", assume(token_file, DurationSeconds=7201))
report("a session policy", "ValidationError", assume(token_file, Policy="{}"))

program = os.path.join(os.path.dirname(sys.executable), "aws")


def aws(*arguments, **changes):
    command = [sys.executable, program, *arguments]
    return subprocess.run(command, env=irsa(**changes), capture_output=True, text=True, timeout=60)


named = aws("sts", "get-caller-identity", "--query", "Arn", "--output", "text")
report("aws sts get-caller-identity", True, named.stdout.startswith(SESSION))
report("aws lambda list-functions", 0, aws("--endpoint-url", url, "lambda", "list-functions").returncode)
denied = aws("sts", "get-caller-identity", AWS_WEB_IDENTITY_TOKEN_FILE=stranger)
report("aws, a ServiceAccount that no role trusts", True, "AccessDenied" in denied.stderr)
