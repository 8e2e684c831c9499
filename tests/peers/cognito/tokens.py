"""Makes a user pool with an app client and a user in the group staff. Prints the ids of pool and client, the ID token and the
access token, one on each line. The argument is the port of a server that is compatible with Amazon Cognito."""

import sys

import boto3

endpoint = f"http://127.0.0.1:{sys.argv[1]}"
keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
cognito = boto3.client("cognito-idp", region_name="eu-west-1", endpoint_url=endpoint, **keys)
pool = cognito.create_user_pool(PoolName="shop")["UserPool"]["Id"]
client = cognito.create_user_pool_client(UserPoolId=pool, ClientName="web", ExplicitAuthFlows=["ADMIN_NO_SRP_AUTH"])
client = client["UserPoolClient"]["ClientId"]
user = {"UserPoolId": pool, "Username": "anna"}
cognito.create_group(UserPoolId=pool, GroupName="staff")
cognito.admin_create_user(**user)
cognito.admin_set_user_password(**user, Password="Passw0rd!", Permanent=True)
cognito.admin_add_user_to_group(**user, GroupName="staff")
login = {"USERNAME": "anna", "PASSWORD": "Passw0rd!"}
result = cognito.admin_initiate_auth(
    UserPoolId=pool, ClientId=client, AuthFlow="ADMIN_NO_SRP_AUTH", AuthParameters=login
)["AuthenticationResult"]
print(pool, client, result["IdToken"], result["AccessToken"], sep="\n")
